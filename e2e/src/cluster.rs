//! The cluster under test: how it is reached, and what is installed in it.

use std::{env, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use callplane_crds::{CallRoom, MediaNode, MediaPool};
use k8s_openapi::api::{
    apps::v1::Deployment,
    authentication::v1::{TokenRequest, TokenRequestSpec},
    coordination::v1::Lease,
    core::v1::{Namespace, Node, Pod, Secret, ServiceAccount},
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{ListParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::process::Command;

use crate::program;

/// Namespace that the chart is installed in; pools, media nodes and their pods live there, too.
pub const SYSTEM: &str = "callplane-system";
/// Lease by which the operator's replicas agree on a leader.
pub const LEADER_LEASE: &str = "callplane-operator";
/// Labels of the operator's pods.
pub const OPERATOR: &str = "app.kubernetes.io/component=operator";

/// A connection to the cluster under test.
#[derive(Clone)]
pub struct Cluster {
    /// Client with the rights of an administrator.
    pub client: Client,
    /// Configuration of the client, to make others from.
    pub config: Config,
    /// File that the configuration came from, for other programs.
    pub kubeconfig: PathBuf,
}

impl Cluster {
    /// Connects to the cluster that `make cluster-up` made.
    ///
    /// # Errors
    /// When there is none, or when `KUBECONFIG` names one that is not made for tests: scenarios kill things.
    pub async fn connect() -> Result<Self> {
        let kubeconfig = env::var_os("KUBECONFIG").map_or_else(|| state().join("kubeconfig"), PathBuf::from);
        let file = Kubeconfig::read_from(&kubeconfig).with_context(|| {
            format!("no test cluster at {}: start one with `make cluster-up`", kubeconfig.display())
        })?;
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        config.connect_timeout = Some(Duration::from_secs(10));
        let client = Client::try_from(config.clone())?;
        let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await.context("the API server")?;
        for node in nodes {
            ensure!(
                node.name_any().starts_with("callplane"),
                "{} is not a test cluster (it has a node called {}): scenarios kill what runs there",
                kubeconfig.display(),
                node.name_any()
            );
        }
        Ok(Self { client, config, kubeconfig })
    }

    /// What `program`, of those that the cluster came with, writes when it is called with `arguments` and given `input`.
    ///
    /// # Errors
    /// When it fails, with what it says.
    pub async fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(cache().join("bin").join(program));
        program::output(command.args(arguments).env("KUBECONFIG", &self.kubeconfig), input).await
    }

    /// A client that is told `token` instead of the administrator's certificate.
    ///
    /// # Errors
    /// When the configuration does not make a client.
    pub fn as_bearer(&self, token: &str) -> Result<Client> {
        let mut config = self.config.clone();
        config.auth_info = kube::config::AuthInfo { token: Some(token.to_owned().into()), ..Default::default() };
        Ok(Client::try_from(config)?)
    }

    /// A token of one of callplane's service accounts, for ten minutes.
    ///
    /// # Errors
    /// When the API server gives none.
    pub async fn token_of(&self, service_account: &str) -> Result<String> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), SYSTEM);
        let spec = TokenRequestSpec { audiences: Vec::new(), bound_object_ref: None, expiration_seconds: Some(600) };
        let request = TokenRequest { spec, ..Default::default() };
        let answer = accounts.create_token_request(service_account, &PostParams::default(), &request).await;
        let token = answer.context("is the chart installed?")?.status.context("a token")?.token;
        ensure!(!token.is_empty(), "the token is empty");
        Ok(token)
    }

    /// CallRooms of a namespace.
    pub fn rooms(&self, namespace: &str) -> Api<CallRoom> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// MediaPools.
    pub fn pools(&self) -> Api<MediaPool> {
        Api::namespaced(self.client.clone(), SYSTEM)
    }

    /// MediaNodes.
    pub fn nodes(&self) -> Api<MediaNode> {
        Api::namespaced(self.client.clone(), SYSTEM)
    }

    /// Pods of callplane.
    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), SYSTEM)
    }

    /// Leases of callplane.
    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), SYSTEM)
    }

    /// Secrets of callplane.
    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), SYSTEM)
    }

    /// Deployments of callplane.
    pub fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.client.clone(), SYSTEM)
    }

    /// Namespaces.
    pub fn namespaces(&self) -> Api<Namespace> {
        Api::all(self.client.clone())
    }
}

/// Where the cluster keeps what belongs to it, as `e2e/cluster/lib.sh` has it.
pub fn state() -> PathBuf {
    env::var_os("CALLPLANE_STATE").map_or_else(|| PathBuf::from("/var/lib/callplane-e2e"), PathBuf::from)
}

/// Where programs that were built for the tests are, as `e2e/cluster/lib.sh` has it.
pub fn cache() -> PathBuf {
    let home = env::var_os("HOME").map_or_else(|| PathBuf::from("/root"), PathBuf::from);
    env::var_os("CALLPLANE_CACHE").map_or_else(|| home.join(".cache/callplane"), PathBuf::from)
}

/// The folder `e2e` of the checkout, where `run.sh` and Cargo start tests. Not that of compile time: checkouts share what is
/// compiled.
pub fn folder() -> PathBuf {
    env::current_dir().unwrap_or_default()
}

//! An etcd and an API server of the benchmark's own, on loopback ports, with data that goes when they go.
//!
//! So nothing else writes to it and nothing that runs elsewhere is disturbed. The programs are those that
//! `make cluster-up` builds. etcd does not wait for the disk: what is compared is the work, not the disk.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::{
    api::core::v1::Namespace, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
    core::ObjectMeta,
    runtime::{conditions, wait::await_condition},
};
use tokio::process::{Child, Command};

use crate::clock;

/// Namespace of everything.
pub const NAMESPACE: &str = "callplane-bench";
/// An address that is nobody's (RFC 5737): the API server refuses to advertise a loopback address.
const ADVERTISED: &str = "192.0.2.1";
const READY: Duration = Duration::from_secs(60);

/// A running API server.
pub struct ApiServer {
    dir: PathBuf,
    children: Vec<Child>,
    /// For the operator.
    pub kubeconfig: PathBuf,
}

impl ApiServer {
    /// Starts etcd and the API server from the programs in `bin`, and installs the CRDs.
    ///
    /// # Errors
    /// When a program is missing, or the server does not come up.
    pub async fn start(bin: &Path) -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("callplane-bench-{}", std::process::id()));
        fs::create_dir_all(&dir)?;
        let kubeconfig = dir.join("kubeconfig");
        let mut server = Self { dir, children: Vec::new(), kubeconfig };
        server.boot(bin).await?;
        Ok(server)
    }

    /// A client with its own connections.
    ///
    /// # Errors
    /// When the kubeconfig does not make one.
    pub async fn client(&self) -> Result<Client> {
        client(&self.kubeconfig).await
    }

    async fn boot(&mut self, bin: &Path) -> Result<()> {
        for program in ["etcd", "kube-apiserver"] {
            let path = bin.join(program);
            ensure!(path.exists(), "{} is missing: `make cluster-up` builds it", path.display());
        }
        let (etcd, peer, port) = (free_port()?, free_port()?, free_port()?);
        let path = |name: &str| self.dir.join(name).display().to_string();
        let key = path("service-accounts.key");
        let made = Command::new("openssl")
            .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key])
            .status()
            .await
            .context("openssl")?;
        ensure!(made.success(), "openssl made no key");
        fs::write(path("tokens.csv"), "bench,bench,bench,system:masters\n")?;
        fs::write(&self.kubeconfig, kubeconfig(port))?;

        let etcd_url = format!("http://127.0.0.1:{etcd}");
        let peer_url = format!("http://127.0.0.1:{peer}");
        let etcd_arguments = [
            format!("--data-dir={}", path("etcd")),
            "--unsafe-no-fsync".to_owned(),
            "--log-level=error".to_owned(),
            "--quota-backend-bytes=8589934592".to_owned(),
            format!("--listen-client-urls={etcd_url}"),
            format!("--advertise-client-urls={etcd_url}"),
            format!("--listen-peer-urls={peer_url}"),
            format!("--initial-advertise-peer-urls={peer_url}"),
            format!("--initial-cluster=default={peer_url}"),
        ];
        let server_arguments = [
            format!("--etcd-servers={etcd_url}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            format!("--advertise-address={ADVERTISED}"),
            "--endpoint-reconciler-type=none".to_owned(),
            format!("--cert-dir={}", path("certificates")),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            format!("--token-auth-file={}", path("tokens.csv")),
            "--authorization-mode=RBAC".to_owned(),
            "--service-account-issuer=https://callplane-bench".to_owned(),
            format!("--service-account-key-file={key}"),
            format!("--service-account-signing-key-file={key}"),
        ];
        self.spawn(bin, "etcd", &etcd_arguments)?;
        self.spawn(bin, "kube-apiserver", &server_arguments)?;
        self.install().await
    }

    fn spawn(&mut self, bin: &Path, program: &str, arguments: &[String]) -> Result<()> {
        let log = File::create(self.dir.join(format!("{program}.log")))?;
        let child = Command::new(bin.join(program))
            .args(arguments)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| program.to_owned())?;
        self.children.push(child);
        Ok(())
    }

    async fn install(&mut self) -> Result<()> {
        let client = self.client().await?;
        let namespaces = Api::<Namespace>::all(client.clone());
        let metadata = ObjectMeta { name: Some(NAMESPACE.to_owned()), ..Default::default() };
        let namespace = Namespace { metadata, ..Default::default() };
        let began = clock::now();
        // Nothing but asking tells when it is up.
        while let Err(error) = namespaces.create(&PostParams::default(), &namespace).await {
            for child in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    bail!("etcd or the API server ended with {status}; its log is in {}", self.dir.display());
                }
            }
            if began.elapsed() > READY {
                bail!("the API server is not ready after {READY:?}: {error}");
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let definitions = Api::<CustomResourceDefinition>::all(client);
        for definition in callplane_crds::all() {
            definitions.create(&PostParams::default(), &definition).await?;
            let name = definition.name_any();
            let established = await_condition(definitions.clone(), &name, conditions::is_crd_established());
            tokio::time::timeout(READY, established).await.with_context(|| format!("{name} to be established"))??;
        }
        Ok(())
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for child in &mut self.children {
            if let Err(error) = child.start_kill() {
                eprintln!("a server could not be ended: {error}");
            }
        }
        // What is left is in the temporary directory, where it does no harm.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A client for the cluster that a kubeconfig names.
///
/// # Errors
/// When it does not make one.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn kubeconfig(port: u16) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
  - name: bench
    cluster: {{server: 'https://127.0.0.1:{port}', insecure-skip-tls-verify: true}}
users:
  - name: bench
    user: {{token: bench}}
contexts:
  - name: bench
    context: {{cluster: bench, user: bench, namespace: {NAMESPACE}}}
current-context: bench
"
    )
}

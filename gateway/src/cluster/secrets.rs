//! Secrets of the gateway's own namespace that it makes itself.

use std::collections::BTreeMap;

use callplane_crds::names::GATEWAY_MANAGER;
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};

use super::kube::{Failure, answer};
use crate::Problem;

/// The way to Secrets by their names. Clones are the same.
#[derive(Clone)]
pub struct Secrets(Api<Secret>);

impl Secrets {
    /// Those of `namespace`.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self(Api::namespaced(client, namespace))
    }

    /// What Secret `name` has under `key`.
    ///
    /// # Errors
    /// [`crate::Code::KubernetesUnavailable`], [`crate::Code::KubernetesRefused`].
    pub async fn read(&self, name: &str, key: &str) -> Result<Option<Vec<u8>>, Problem> {
        match answer(self.0.get(name)).await {
            Ok(secret) => Ok(secret.data.and_then(|mut data| data.remove(key)).map(|bytes| bytes.0)),
            Err(Failure::NotFound) => Ok(None),
            Err(failure) => Err(failure.problem(None)),
        }
    }

    /// Makes Secret `name` with `value` under `key`; `false` if there is one of this name, which is left as it is.
    ///
    /// # Errors
    /// [`crate::Code::KubernetesUnavailable`], [`crate::Code::KubernetesRefused`].
    pub async fn create(&self, name: &str, key: &str, value: &[u8]) -> Result<bool, Problem> {
        let secret = Secret {
            metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
            data: Some(BTreeMap::from([(key.to_owned(), ByteString(value.to_vec()))])),
            ..Secret::default()
        };
        let post = PostParams { field_manager: Some(GATEWAY_MANAGER.to_owned()), ..PostParams::default() };
        match answer(self.0.create(&post, &secret)).await {
            Ok(_) => Ok(true),
            Err(Failure::Conflict) => Ok(false),
            Err(failure) => Err(failure.problem(None)),
        }
    }
}

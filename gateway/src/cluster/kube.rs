//! Requests to the API server, each within a time limit, and what their failures mean for who asked.

use std::time::Duration;

use callplane_crds::{CallId, CallRoom, Presence, names::GATEWAY_MANAGER};
use kube::{
    Api, Client, Resource,
    api::{ListParams, ObjectList, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{Code, Problem};

/// Longest time that the API server may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// The way to the API server. Clones are the same.
#[derive(Clone)]
pub struct Kube {
    client: Client,
    namespace: String,
    only: Option<String>,
}

impl Kube {
    /// Creates and lists rooms in `namespace`; knows those of `only`, or of every namespace.
    pub fn new(client: Client, namespace: String, only: Option<String>) -> Self {
        Self { client, namespace, only }
    }

    /// Namespace that rooms are created in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The room, fresh from the API server.
    ///
    /// # Errors
    /// [`Code::RoomNotFound`], [`Code::KubernetesUnavailable`], [`Code::KubernetesRefused`].
    pub async fn room(&self, id: &CallId) -> Result<CallRoom, Problem> {
        self.may_know(id)?;
        answer(self.rooms(&id.namespace).get(&id.name)).await.map_err(|failure| failure.problem(Some(id)))
    }

    /// Creates the room; `None` if there is one of its name.
    ///
    /// # Errors
    /// [`Code::Invalid`], [`Code::KubernetesUnavailable`], [`Code::KubernetesRefused`].
    pub async fn create(&self, room: &CallRoom) -> Result<Option<CallRoom>, Problem> {
        let post = PostParams { field_manager: Some(GATEWAY_MANAGER.to_owned()), ..PostParams::default() };
        match answer(self.rooms(&self.namespace).create(&post, room)).await {
            Ok(created) => Ok(Some(created)),
            Err(Failure::Conflict) => Ok(None),
            Err(failure) => Err(failure.problem(None)),
        }
    }

    /// A page of the rooms of [`Kube::namespace`].
    ///
    /// # Errors
    /// [`Code::ContinueExpired`], [`Code::KubernetesUnavailable`], [`Code::KubernetesRefused`].
    pub async fn list(&self, limit: u32, from: Option<&str>) -> Result<ObjectList<CallRoom>, Problem> {
        let mut page = ListParams::default().limit(limit);
        page.continue_token = from.map(str::to_owned);
        answer(self.rooms(&self.namespace).list(&page)).await.map_err(|failure| match failure {
            Failure::Gone => Problem::new(Code::ContinueExpired, "begin the list again: continue is too old"),
            Failure::Invalid { .. } if from.is_some() => {
                Problem::new(Code::Invalid, "this is none that a list answered with").field("continue")
            }
            other => other.problem(None),
        })
    }

    /// Merges `patch` into the room; `None` if it changed since the version that `patch` names, if it names one.
    ///
    /// # Errors
    /// [`Code::RoomNotFound`], [`Code::KubernetesUnavailable`], [`Code::KubernetesRefused`].
    pub async fn merge(&self, id: &CallId, patch: &Value) -> Result<Option<CallRoom>, Problem> {
        self.may_know(id)?;
        let parameters = PatchParams { field_manager: Some(GATEWAY_MANAGER.to_owned()), ..PatchParams::default() };
        match answer(self.rooms(&id.namespace).patch(&id.name, &parameters, &Patch::Merge(patch))).await {
            Ok(patched) => Ok(Some(patched)),
            Err(Failure::Conflict) => Ok(None),
            Err(failure) => Err(failure.problem(Some(id))),
        }
    }

    /// Writes the room's `status.presence`, which is the gateway's alone, unless it is another room by now.
    ///
    /// # Errors
    /// [`Code::RoomNotFound`], [`Code::Conflict`], [`Code::KubernetesUnavailable`], [`Code::KubernetesRefused`].
    pub async fn apply_presence(&self, id: &CallId, uid: &str, presence: &Presence) -> Result<(), Problem> {
        self.may_know(id)?;
        let apply = json!({
            "apiVersion": CallRoom::api_version(&()),
            "kind": CallRoom::kind(&()),
            "metadata": {"name": id.name, "uid": uid},
            "status": {"presence": presence},
        });
        let parameters = PatchParams::apply(GATEWAY_MANAGER).force();
        let (rooms, apply) = (self.rooms(&id.namespace), Patch::Apply(apply));
        let written = answer(rooms.patch_status(&id.name, &parameters, &apply)).await;
        written.map(drop).map_err(|failure| failure.problem(Some(id)))
    }

    /// A room of a namespace that is none of ours is as good as not there.
    fn may_know(&self, id: &CallId) -> Result<(), Problem> {
        match &self.only {
            Some(only) if *only != id.namespace => Err(not_found(id)),
            _ => Ok(()),
        }
    }

    fn rooms(&self, namespace: &str) -> Api<CallRoom> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// Why there is no answer.
pub(super) enum Failure {
    NotFound,
    Conflict,
    Gone,
    Invalid { message: String, field: Option<String> },
    Refused,
    Away,
}

impl Failure {
    pub(super) fn problem(self, id: Option<&CallId>) -> Problem {
        match (self, id) {
            (Self::NotFound, Some(id)) => not_found(id),
            (Self::Conflict | Self::Gone, _) => Problem::new(Code::Conflict, "the room changed meanwhile"),
            (Self::Invalid { message, field }, _) => {
                let problem = Problem::new(Code::Invalid, message);
                match field {
                    Some(field) => problem.field(field),
                    None => problem,
                }
            }
            // A namespace that is not there is the installation's fault, not the caller's.
            (Self::Refused | Self::NotFound, _) => Problem::new(
                Code::KubernetesRefused,
                "the cluster does not let the gateway do this: its rights, a quota or a policy; its log says more",
            ),
            (Self::Away, _) => Problem::new(Code::KubernetesUnavailable, "the Kubernetes API server does not answer"),
        }
    }
}

fn not_found(id: &CallId) -> Problem {
    Problem::new(Code::RoomNotFound, format!("there is no room {id}"))
}

pub(super) async fn answer<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    let status = match tokio::time::timeout(ANSWER_WITHIN, request).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(kube::Error::Api(status))) => status,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the API server could not be asked");
            return Err(Failure::Away);
        }
        Err(_) => {
            tracing::warn!("the API server did not answer in time");
            return Err(Failure::Away);
        }
    };
    Err(match status.code {
        404 => Failure::NotFound,
        409 => Failure::Conflict,
        410 => Failure::Gone,
        400 | 422 => {
            let cause = status.details.as_ref().and_then(|d| d.causes.first());
            let message = cause.map_or(&status.message, |c| &c.message).clone();
            Failure::Invalid { message, field: cause.and_then(|c| request_field(&c.field)) }
        }
        401 | 403 => {
            tracing::warn!(code = status.code, message = status.message, "the API server refused");
            Failure::Refused
        }
        _ => {
            tracing::warn!(code = status.code, message = status.message, "the API server failed");
            Failure::Away
        }
    })
}

/// The field of a request that a field of a CallRoom was made from.
fn request_field(path: &str) -> Option<String> {
    if path == "metadata.name" {
        return Some("name".to_owned());
    }
    let setting = path.strip_prefix("spec.")?;
    if setting == "scheduledTime" {
        return Some(setting.to_owned());
    }
    Some(format!("settings.{}", setting.strip_prefix("lifetime.").unwrap_or(setting)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_server_refuses_is_told_in_the_words_of_the_request() {
        for (path, field) in [
            ("spec.maxParticipants", Some("settings.maxParticipants")),
            ("spec.lifetime.emptyTimeoutSeconds", Some("settings.emptyTimeoutSeconds")),
            ("spec.scheduledTime", Some("scheduledTime")),
            ("metadata.name", Some("name")),
            ("<nil>", None),
        ] {
            assert_eq!(request_field(path).as_deref(), field, "{path}");
        }
    }
}

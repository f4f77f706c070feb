//! `callplane-operator apply-crds`, which the chart runs before an upgrade: brings the definitions in the
//! cluster to those that this program was built with.
//!
//! They are replaced and not merged: a validation rule or a field that is no longer there has to go.

use callplane_crds::all;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, ResourceExt, api::PostParams};
use thiserror::Error;

/// How often a definition is tried again that somebody else changed in between.
const ATTEMPTS: usize = 5;

/// What went wrong.
#[derive(Debug, Error)]
#[error("cannot {step} CustomResourceDefinition {name}: {source}")]
pub struct ApplyCrdsError {
    step: &'static str,
    name: String,
    source: kube::Error,
}

/// Creates or replaces every definition; returns a line about each.
///
/// # Errors
/// At the first that the API server refuses. Those before it are up to date then; running it again is safe.
pub async fn run(client: Client) -> Result<Vec<String>, ApplyCrdsError> {
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let mut lines = Vec::new();
    for wanted in all() {
        let name = wanted.name_any();
        let done = apply(&api, &name, wanted).await;
        let change = done.map_err(|(step, source)| ApplyCrdsError { step, name: name.clone(), source })?;
        lines.push(format!("{name}: {change}"));
    }
    Ok(lines)
}

async fn apply(
    api: &Api<CustomResourceDefinition>,
    name: &str,
    wanted: CustomResourceDefinition,
) -> Result<&'static str, (&'static str, kube::Error)> {
    let parameters = PostParams { field_manager: Some("callplane-crds".to_owned()), ..PostParams::default() };
    let mut attempt = 1;
    loop {
        let live = api.get_opt(name).await.map_err(|e| ("read", e))?;
        let version = live.as_ref().and_then(ResourceExt::resource_version);
        let (step, written) = match live {
            None => ("create", api.create(&parameters, &wanted).await),
            Some(mut next) => {
                // Labels, annotations and the conversion are the cluster's own, and stay.
                next.spec.versions.clone_from(&wanted.spec.versions);
                next.spec.names.clone_from(&wanted.spec.names);
                ("replace", api.replace(name, &parameters, &next).await)
            }
        };
        match written {
            // The API server fills in defaults before it compares, so it is the one to ask.
            Ok(now) if now.resource_version() == version => return Ok("up to date"),
            Ok(_) if step == "create" => return Ok("created"),
            Ok(_) => return Ok("replaced"),
            Err(kube::Error::Api(status))
                if attempt < ATTEMPTS && (status.is_conflict() || status.is_already_exists()) =>
            {
                attempt += 1;
            }
            Err(error) => return Err((step, error)),
        }
    }
}

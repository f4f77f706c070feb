//! A namespace to try things in, and the words for what is tried.

use anyhow::{Context, Result, anyhow, bail, ensure};
use callplane_e2e::{Cluster, clock, scene::ignore_missing};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, CustomResourceExt, Resource, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, ValidationDirective},
    core::{
        ApiResource, ObjectMeta, Request,
        response::{Status, StatusCause},
    },
};
use serde_json::{Value, json};

use std::time::Duration;

/// Label of the namespaces: which test they are for.
const DESK: &str = "callplane.io/desk";
/// For everything that one test does.
const LIMIT: Duration = Duration::from_secs(240);

/// A cluster and a namespace of its own.
#[derive(Clone)]
pub struct Desk {
    pub cluster: Cluster,
    pub namespace: String,
}

/// Runs `body` in a namespace called after `name`, which is removed afterwards.
pub fn desk<F, Fut>(name: &str, body: F)
where
    F: FnOnce(Desk) -> Fut,
    Fut: Future<Output = Result<()>> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            let cluster = Cluster::connect().await?;
            let desk = Desk { namespace: format!("e2e-rules-{name}-{}", clock::wall().as_second()), cluster };
            desk.open(name).await?;
            // A task of its own, so that a failed assertion is an outcome and not the end.
            let task = tokio::spawn(tokio::time::timeout(LIMIT, body(desk.clone())));
            let outcome = match task.await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(anyhow!("not done within {LIMIT:?}")),
                Err(panic) => Err(anyhow!("{panic}")),
            };
            outcome.and(desk.close().await)
        })
    });
    if let Err(error) = outcome {
        panic!("{name}: {error:?}");
    }
}

impl Desk {
    /// Makes the namespace. It has a name of its own each time, so that nobody need wait for an earlier one to go.
    async fn open(&self, name: &str) -> Result<()> {
        let namespaces = self.cluster.namespaces();
        let earlier = ListParams::default().labels(&format!("{DESK}={name}"));
        for namespace in namespaces.list(&earlier).await? {
            ignore_missing(namespaces.delete(&namespace.name_any(), &DeleteParams::default()).await.map(drop))?;
        }
        let metadata = ObjectMeta {
            name: Some(self.namespace.clone()),
            labels: Some([(DESK.to_owned(), name.to_owned())].into()),
            ..Default::default()
        };
        namespaces.create(&PostParams::default(), &Namespace { metadata, ..Default::default() }).await?;
        Ok(())
    }

    /// Asks for the namespace to go.
    async fn close(&self) -> Result<()> {
        let deleted = self.cluster.namespaces().delete(&self.namespace, &DeleteParams::default()).await;
        ignore_missing(deleted.map(drop))
    }

    /// Objects of a kind of ours in the desk's namespace.
    pub fn all<K: CustomResourceExt>(&self) -> Objects {
        Objects::of::<K>(self.cluster.client.clone(), &self.namespace)
    }

    /// Creates what every case of `cases` says, without keeping it, and tells all that went otherwise than expected.
    pub async fn try_all<K: CustomResourceExt>(&self, cases: Vec<Case>) -> Result<()> {
        let objects = self.all::<K>();
        let mut wrong = Vec::new();
        for case in &cases {
            let outcome = objects.create(&case.object, Keep::No).await;
            wrong.extend(case.judge(outcome));
        }
        ensure!(wrong.is_empty(), "{} of {} cases:\n  {}", wrong.len(), cases.len(), wrong.join("\n  "));
        Ok(())
    }
}

/// Whether what is written stays.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Yes,
    No,
}

/// Objects of one kind in one namespace, as JSON, written as `kubectl` does: unknown fields are refused.
pub struct Objects {
    client: Client,
    resource: ApiResource,
    namespace: String,
}

impl Objects {
    pub fn of<K: CustomResourceExt>(client: Client, namespace: &str) -> Self {
        Self { client, resource: K::api_resource(), namespace: namespace.to_owned() }
    }

    pub fn api(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &self.resource)
    }

    pub async fn create(&self, object: &Value, keep: Keep) -> kube::Result<Value> {
        let mut object = object.clone();
        object["apiVersion"] = json!(self.resource.api_version);
        object["kind"] = json!(self.resource.kind);
        let url = DynamicObject::url_path(&self.resource, Some(&self.namespace));
        let parameters = PostParams { dry_run: keep == Keep::No, field_manager: Some("e2e".to_owned()) };
        let body = serde_json::to_vec(&object).map_err(kube::Error::SerdeError)?;
        let mut request = Request::new(url).create(&parameters, body).map_err(kube::Error::BuildRequest)?;
        let strict = format!("{}&fieldValidation=Strict", request.uri());
        *request.uri_mut() = strict.parse().expect("a parameter more does not break an address");
        self.client.request(request).await
    }

    /// Changes an object by merge patch.
    pub async fn change(&self, name: &str, patch: &Value, keep: Keep) -> kube::Result<DynamicObject> {
        self.api().patch(name, &changing(keep), &Patch::Merge(patch)).await
    }

    /// Changes an object's status by merge patch.
    pub async fn tell(&self, name: &str, status: &Value, keep: Keep) -> kube::Result<DynamicObject> {
        self.api().patch_status(name, &changing(keep), &Patch::Merge(json!({ "status": status }))).await
    }
}

fn changing(keep: Keep) -> PatchParams {
    let field_validation = Some(ValidationDirective::Strict);
    PatchParams { dry_run: keep == Keep::No, field_validation, ..PatchParams::default() }
}

/// Something to be created, and what comes of it.
pub struct Case {
    object: Value,
    refusal: Option<(&'static str, &'static str)>,
}

impl Case {
    /// `spec` is fine.
    pub fn fine(spec: Value) -> Self {
        Self { object: json!({"metadata": {"name": "case"}, "spec": spec}), refusal: None }
    }

    /// `spec` is refused: the API server names `field` and says `says`.
    pub fn refused(spec: Value, field: &'static str, says: &'static str) -> Self {
        Self { refusal: Some((field, says)), ..Self::fine(spec) }
    }

    /// The same under another name.
    pub fn named(mut self, name: &str) -> Self {
        self.object["metadata"]["name"] = json!(name);
        self
    }

    fn judge<T>(&self, outcome: kube::Result<T>) -> Option<String> {
        let wrong = match (self.refusal, outcome) {
            (None, Ok(_)) => return None,
            (Some(_), Ok(_)) => anyhow!("was accepted"),
            (None, Err(error)) => error.into(),
            (Some((field, says)), outcome) => refused(outcome, field, says).err()?,
        };
        Some(format!("{}: {wrong:#}", self.object))
    }
}

/// What a capacity may be and what it may not, in the spec that `within` puts it into.
pub fn capacities(within: impl Fn(Value) -> Value) -> Vec<Case> {
    let fine = |capacity| Case::fine(within(capacity));
    let refused = |capacity, field, says| Case::refused(within(capacity), field, says);
    vec![
        fine(json!({"rooms": 1, "participants": 2, "streams": 4})),
        fine(json!({"rooms": 4000, "participants": 100_000, "streams": 100_000_000})),
        refused(json!({"rooms": 0}), "spec.capacity.rooms", "should be greater than or equal to 1"),
        refused(json!({"rooms": 4001}), "spec.capacity.rooms", "should be less than or equal to 4000"),
        refused(json!({"participants": 1}), "spec.capacity.participants", "should be greater than or equal to 2"),
        refused(
            json!({"participants": 100_001}),
            "spec.capacity.participants",
            "should be less than or equal to 100000",
        ),
        refused(json!({"streams": 3}), "spec.capacity.streams", "should be greater than or equal to 4"),
        refused(json!({"streams": 100_000_001}), "spec.capacity.streams", "should be less than or equal to 100000000"),
    ]
}

/// The refusal in `outcome`.
pub fn refusal<T>(outcome: kube::Result<T>) -> Result<Status> {
    match outcome {
        Ok(_) => bail!("was accepted"),
        Err(kube::Error::Api(status)) => Ok(*status),
        Err(error) => Err(error.into()),
    }
}

/// Fails unless the API server refused, named `field` as its one cause, and said `says`.
pub fn refused<T>(outcome: kube::Result<T>, field: &str, says: &str) -> Result<()> {
    let status = refusal(outcome)?;
    let causes = status.details.as_ref().map(|d| d.causes.as_slice()).unwrap_or_default();
    let told: Vec<_> = causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
    if field.is_empty() {
        ensure!(status.message.contains(says), "said {:?}", status.message);
        return Ok(());
    }
    ensure!(causes.iter().any(|c| c.field == field && c.message.contains(says)), "said {told:#?}");
    // A rule over what was already found wrong is not evaluated, and API servers say so; anything else is noise.
    let noise = |c: &&StatusCause| {
        c.field.trim_start_matches('.') != field && !c.message.contains("some validation rules were not checked")
    };
    ensure!(causes.iter().find(noise).is_none(), "said more than one thing: {told:#?}");
    Ok(())
}

/// Fails unless the API server forbade it, with words that contain `says`.
pub fn forbidden<T>(what: &str, outcome: kube::Result<T>, says: &str) -> Result<()> {
    let status = refusal(outcome).with_context(|| what.to_owned())?;
    ensure!(status.code == 403 && status.message.contains(says), "{what}: {} {}", status.code, status.message);
    Ok(())
}

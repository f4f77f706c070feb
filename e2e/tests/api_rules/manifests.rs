//! The installation without Helm, and the samples: the API server takes every object of them.

use std::fs;

use anyhow::{Context, Result, ensure};
use callplane_e2e::cluster::{SYSTEM, folder};

use crate::desk::{Desk, desk};

/// As people apply them: to the namespaces that they name, both of which are there.
#[test]
fn the_manifests_are_accepted_where_they_belong() {
    desk("manifests", |desk| async move {
        for (name, text) in manifests()? {
            accepted(&desk, &name, &text).await?;
        }
        Ok(())
    });
}

/// In a namespace where nothing is yet. What is applied to an object that is there is completed by what it has, and may
/// lack something.
#[test]
fn the_manifests_are_complete() {
    desk("manifests-anew", |desk| async move {
        for (name, text) in manifests()? {
            let elsewhere = text.replace(SYSTEM, &desk.namespace);
            let elsewhere = elsewhere.replace("namespace: default\n", &format!("namespace: {}\n", desk.namespace));
            accepted(&desk, &name, &elsewhere).await?;
        }
        Ok(())
    });
}

/// What `manifests` has, by path, but for the script that makes it.
fn manifests() -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut folders = vec![folder().join("../manifests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                found.push((path.display().to_string(), fs::read_to_string(&path)?));
            }
        }
    }
    found.sort();
    for name in ["install.yaml", "callroom-demo.yaml", "hostport.yaml"] {
        ensure!(found.iter().any(|(path, _)| path.ends_with(name)), "no {name} among {} manifests", found.len());
    }
    Ok(found)
}

/// Has the API server judge `text` as `kubectl apply` sends it, and keep nothing. Unknown fields are refused.
async fn accepted(desk: &Desk, name: &str, text: &str) -> Result<()> {
    let arguments =
        ["apply", "--server-side", "--dry-run=server", "--force-conflicts", "--validate=strict", "--filename", "-"];
    let accepted = desk.cluster.run("kubectl", &arguments, text).await;
    let accepted = accepted.with_context(|| format!("{name} is not accepted"))?;
    // Each object is named once.
    let objects = accepted.lines().count();
    let expected = text.lines().filter(|line| line.starts_with("kind:")).count();
    ensure!(objects == expected, "{name} has {expected} objects, and {objects} were accepted:\n{accepted}");
    Ok(())
}

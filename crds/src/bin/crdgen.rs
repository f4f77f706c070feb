//! Writes the CRDs, one YAML file per kind, into the given folders; without any into `crds` and
//! `charts/callplane/crds`, where the repository keeps them.

use std::{error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let mut folders: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if folders.is_empty() {
        folders = ["crds", "charts/callplane/crds"].map(PathBuf::from).to_vec();
    }
    for folder in folders {
        for crd in callplane_crds::all() {
            let file = folder.join(format!("{}.yaml", crd.spec.names.plural));
            fs::write(&file, callplane_crds::to_yaml(&crd)?).map_err(|e| format!("{}: {e}", file.display()))?;
        }
    }
    Ok(())
}

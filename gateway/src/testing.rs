//! What tests share: scratch directories, a database.

use std::{
    fs,
    path::{Path, PathBuf},
};

use callplane_operator::keys::{JoinKey, PRIVATE};

#[path = "../tests/gateway/postgres.rs"]
mod postgres;

pub use postgres::Postgres;

/// A directory that goes when it is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Self {
        let mut name = [0; 8];
        aws_lc_rs::rand::fill(&mut name).unwrap();
        let path = std::env::temp_dir().join(format!("callplane-gateway-{}", hex(&name)));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn with_join_key() -> Self {
        let scratch = Self::new();
        fs::write(scratch.path().join(PRIVATE), JoinKey::generate().unwrap().pem).unwrap();
        scratch
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

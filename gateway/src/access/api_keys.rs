//! Backends' API keys, known here by their digests only.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, digest},
};

/// How often the directory is read again.
const RELOAD: Duration = Duration::from_secs(5);
/// Keys that are read at most.
const MAX_KEYS: usize = 256;
/// Shortest and longest key that is looked at. A digest protects only what cannot be guessed.
const KEY_LENGTH: std::ops::RangeInclusive<usize> = 32..=512;

type Keys = Vec<(String, [u8; 32])>;

/// The keys that are good now. Clones are the same.
#[derive(Clone)]
pub struct ApiKeys {
    directory: PathBuf,
    keys: Arc<RwLock<Arc<Keys>>>,
}

impl ApiKeys {
    /// Those of a directory: one file a key, its name the caller's, its content the SHA-256 in hexadecimal. A
    /// directory that is not there has none.
    ///
    /// # Errors
    /// When it cannot be read, or holds something else.
    pub fn new(directory: PathBuf) -> io::Result<Self> {
        let keys = read(&directory)?;
        tracing::info!(backends = keys.len(), "API keys");
        Ok(Self { directory, keys: Arc::new(RwLock::new(Arc::new(keys))) })
    }

    /// Reads them again for as long as it is polled. What cannot be read leaves the earlier ones good.
    pub async fn keep_reading(self) {
        loop {
            tokio::time::sleep(RELOAD).await;
            self.reload();
        }
    }

    pub(crate) fn reload(&self) {
        match read(&self.directory) {
            Ok(keys) => *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys),
            Err(error) => tracing::warn!(%error, "keeping the earlier API keys"),
        }
    }

    /// Whose key this is. Takes as long whether and wherever it is found.
    pub fn holder(&self, key: &str) -> Option<String> {
        if !KEY_LENGTH.contains(&key.len()) {
            return None;
        }
        let presented = digest(&SHA256, key.as_bytes());
        let keys = Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner));
        let mut holder = None;
        for (name, known) in keys.iter() {
            if verify_slices_are_equal(known, presented.as_ref()).is_ok() {
                holder = Some(name.clone());
            }
        }
        holder
    }
}

fn read(directory: &Path) -> io::Result<Keys> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Keys::new()),
        entries => entries?,
    };
    let mut keys = Keys::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        // Kubernetes keeps its own there under names with a dot.
        if name.is_empty() || name.starts_with('.') || !path.is_file() {
            continue;
        }
        let wrong = |what: &str| io::Error::other(format!("{}: {what}", path.display()));
        if keys.len() == MAX_KEYS {
            return Err(wrong("more than 256 API keys"));
        }
        if fs::metadata(&path)?.len() > 128 {
            return Err(wrong("is no SHA-256 in hexadecimal"));
        }
        let text = fs::read_to_string(&path)?;
        keys.push((name, digest_of(text.trim()).ok_or_else(|| wrong("is no SHA-256 in hexadecimal"))?));
    }
    keys.sort();
    Ok(keys)
}

fn digest_of(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Scratch, hex};

    #[test]
    fn a_key_is_known_by_its_digest_until_it_is_taken_away() {
        let scratch = Scratch::new();
        let (ann, bob) = ("a".repeat(40), "b".repeat(40));
        let write = |name: &str, key: &str| {
            fs::write(scratch.path().join(name), format!("{}\n", hex(digest(&SHA256, key.as_bytes()).as_ref())))
                .unwrap();
        };
        write("ann", &ann);
        write("bob", &bob);
        let keys = ApiKeys::new(scratch.path().to_owned()).unwrap();
        assert_eq!((keys.holder(&ann).as_deref(), keys.holder(&bob).as_deref()), (Some("ann"), Some("bob")));
        for other in ["", "a", &"a".repeat(41), &"a".repeat(10_000)] {
            assert_eq!(keys.holder(other), None);
        }
        fs::remove_file(scratch.path().join("ann")).unwrap();
        keys.reload();
        assert_eq!((keys.holder(&ann), keys.holder(&bob).as_deref()), (None, Some("bob")));
        fs::write(scratch.path().join("carl"), "plain text key").unwrap();
        keys.reload();
        assert_eq!(keys.holder(&bob).as_deref(), Some("bob"), "a broken file takes nobody's key away");
        assert!(ApiKeys::new(scratch.path().to_owned()).is_err());
    }

    #[test]
    fn no_directory_is_no_keys() {
        let keys = ApiKeys::new(Scratch::new().path().join("nothing")).unwrap();
        assert_eq!(keys.holder(&"a".repeat(40)), None);
    }
}

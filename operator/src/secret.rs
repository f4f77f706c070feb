//! Secrets of texts, as the operator keeps them.

use std::collections::BTreeMap;

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};

/// What a Secret holds.
pub type Data = BTreeMap<String, ByteString>;

/// The text under `key`; `None` when there is none, or no text.
pub fn text(secret: &Secret, key: &str) -> Option<String> {
    String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok()
}

/// Texts as the data of a Secret.
pub fn data<const N: usize>(texts: [(&str, String); N]) -> Data {
    texts.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.into_bytes()))).collect()
}

/// The Secret `name`, as it is to be.
pub fn named(name: &str, data: Data) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some([("app.kubernetes.io/name".to_owned(), "callplane".to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some(data),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

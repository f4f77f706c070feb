//! Which TURN servers there are: as configured, or those whose pods are ready.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

/// What stands for the address of each ready pod.
const ANY: &str = "*";

/// Whether `urls` speak of pods.
pub fn are_pods(urls: &[String]) -> bool {
    urls.iter().any(|url| host(url) == ANY)
}

/// The servers that `urls` speak of, each as its URLs with spaces between: for `*`, one on each of `addresses`.
pub fn servers(urls: &[String], addresses: &BTreeSet<String>) -> Vec<String> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut add = |host: &str, url: String| match found.iter_mut().find(|(known, _)| known == host) {
        Some((_, urls)) => urls.push(url),
        None => found.push((host.to_owned(), vec![url])),
    };
    for url in urls {
        if host(url) == ANY {
            for address in addresses {
                let shown = if address.contains(':') { format!("[{address}]") } else { address.clone() };
                add(&shown, url.replacen(ANY, &shown, 1));
            }
        } else {
            add(host(url), url.clone());
        }
    }
    found.into_iter().map(|(_, urls)| urls.join(" ")).collect()
}

/// The servers that `urls` speak of where none of them speaks of pods.
pub fn configured(urls: &[String]) -> Vec<String> {
    servers(urls, &BTreeSet::new())
}

/// The address that clients reach `pod` at, if it is ready.
pub fn address(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    (ready && pod.metadata.deletion_timestamp.is_none()).then(|| status.host_ip.clone()).flatten()
}

fn host(url: &str) -> &str {
    let place = url.split_once(':').map_or(url, |(_, rest)| rest).split('?').next().unwrap_or_default();
    match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => host,
        _ => place,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(urls: &[&str], addresses: &[&str]) -> Vec<String> {
        let urls: Vec<String> = urls.iter().map(|u| (*u).to_owned()).collect();
        servers(&urls, &addresses.iter().map(|a| (*a).to_owned()).collect())
    }

    #[test]
    fn urls_of_one_server_stay_together() {
        let urls = ["turn:a:1?transport=udp", "turn:b:1", "turns:a:2"];
        assert_eq!(of(&urls, &["192.0.2.1"]), ["turn:a:1?transport=udp turns:a:2", "turn:b:1"]);
        let any = ["turn:*:1?transport=udp", "turn:*:1?transport=tcp"];
        assert_eq!(
            of(&any, &["192.0.2.1", "2001:db8::1"]),
            [
                "turn:192.0.2.1:1?transport=udp turn:192.0.2.1:1?transport=tcp",
                "turn:[2001:db8::1]:1?transport=udp turn:[2001:db8::1]:1?transport=tcp"
            ]
        );
        assert!(of(&any, &[]).is_empty());
        assert!(are_pods(&any.map(str::to_owned)) && !are_pods(&urls.map(str::to_owned)));
    }

    #[test]
    fn only_pods_that_are_ready_are_told_of() {
        let pod = |ready: &str, going: bool| -> Pod {
            let gone = going.then_some("2026-01-01T00:00:00Z");
            serde_json::from_value(json!({"metadata": {"name": "c", "deletionTimestamp": gone},
                "status": {"hostIP": "192.0.2.1", "conditions": [{"type": "Ready", "status": ready}]}}))
            .unwrap()
        };
        assert_eq!(address(&pod("True", false)).as_deref(), Some("192.0.2.1"));
        for pod in [pod("False", false), pod("True", true), Pod::default()] {
            assert_eq!(address(&pod), None);
        }
    }
}

//! A session of WHIP (RFC 9725) or WHEP: an offer goes up, an answer comes back, and a URL to delete.

use anyhow::{Context, Result, ensure};
use reqwest::{Client, StatusCode, Url, header};

use crate::connection::Connection;

/// Where it is, and whose.
pub struct Session<'a> {
    client: &'a Client,
    url: Url,
    token: &'a str,
}

impl<'a> Session<'a> {
    /// Offers what the connection has, and gives it the answer.
    pub async fn begin(client: &'a Client, url: &str, token: &'a str, connection: &mut Connection) -> Result<Self> {
        let offer = connection.offer().await?;
        let request = client.post(url).bearer_auth(token).header(header::CONTENT_TYPE, "application/sdp").body(offer);
        let answer = request.send().await?;
        let (status, base) = (answer.status(), answer.url().clone());
        let location = answer.headers().get(header::LOCATION).cloned();
        let text = answer.text().await?;
        ensure!(status == StatusCode::CREATED, "{url}: {status} {text}");
        let url = base.join(location.context("no location")?.to_str()?)?;
        connection.answered(text).await?;
        Ok(Self { client, url, token })
    }

    /// Deletes it. The status of that.
    pub async fn end(self) -> Result<u16> {
        Ok(self.client.delete(self.url).bearer_auth(self.token).send().await?.status().as_u16())
    }
}

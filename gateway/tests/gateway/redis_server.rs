//! A Redis of a test's own.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// How Redis begins what it tells subscribers (its protocol, RESP).
const PUBLISHED: &[u8] = b"$7\r\nmessage\r\n";

/// A redis-server of this test's own.
pub struct Server {
    port: u16,
    password: &'static str,
    process: Option<Child>,
}

impl Server {
    /// One that asks nobody who they are.
    pub fn start() -> Self {
        Self::with_password("")
    }

    pub fn with_password(password: &'static str) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { port, password, process: None };
        server.run();
        server
    }

    pub fn run(&mut self) {
        let port = self.port.to_string();
        let arguments = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp"];
        let mut command = Command::new("redis-server");
        command.args(arguments).args(["--requirepass", self.password]);
        let process = command.stdout(Stdio::null()).spawn();
        self.process = Some(process.expect("redis-server is installed (`e2e/cluster/tools.sh unit` does it)"));
    }

    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// The URL of a way to it on which what is published comes late.
    pub async fn late(&self, by: Duration) -> String {
        let (listener, server) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), self.port);
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // It may still be starting.
                let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { continue };
                let ((mut asked, mut told), (mut says, mut hears)) = (client.into_split(), server.into_split());
                tokio::spawn(async move { tokio::io::copy(&mut asked, &mut hears).await });
                tokio::spawn(async move {
                    let mut chunk = vec![0; 1 << 16];
                    while let Ok(length @ 1..) = says.read(&mut chunk).await {
                        if chunk[..length].windows(PUBLISHED.len()).any(|part| part == PUBLISHED) {
                            tokio::time::sleep(by).await;
                        }
                        if told.write_all(&chunk[..length]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        format!("redis://127.0.0.1:{port}")
    }

    pub fn url(&self) -> String {
        match self.password {
            "" => format!("redis://127.0.0.1:{}", self.port),
            password => format!("redis://:{password}@127.0.0.1:{}", self.port),
        }
    }

    /// Asks as `redis-cli` would.
    pub async fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.url()).unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        loop {
            if let Ok(mut connection) = client.get_multiplexed_async_connection().await
                && let Ok(answer) = command.query_async(&mut connection).await
            {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.kill();
        }
    }
}

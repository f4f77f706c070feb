//! A Redis of a test's own.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

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

//! A PostgreSQL server of a test's own: on a socket in a scratch directory, by a user that is not root, stopped by its pid.

use std::{
    fs,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Where Debian has the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// User that the database belongs to.
const USER: &str = "callplane";

pub struct Postgres {
    directory: PathBuf,
    server: Option<Child>,
}

impl Postgres {
    /// A new server with an empty database.
    pub fn start() -> Self {
        let mut name = [0; 8];
        aws_lc_rs::rand::fill(&mut name).unwrap();
        let directory = std::env::temp_dir().join(format!("callplane-postgres-{:016x}", u64::from_be_bytes(name)));
        fs::create_dir(&directory).unwrap();
        let (user, group) = owner(&directory);
        chown(&directory, Some(user), Some(group)).unwrap();
        let mut postgres = Self { directory, server: None };
        let data = postgres.directory.join("data");
        let initdb = postgres
            .program("initdb")
            .arg("--pgdata")
            .arg(data)
            .args(["--username", USER])
            .args(["--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"])
            .output()
            .unwrap();
        assert!(initdb.status.success(), "{}", String::from_utf8_lossy(&initdb.stderr));
        fs::write(postgres.url_file(), postgres.url()).unwrap();
        postgres.start_again();
        postgres
    }

    /// Starts the server that was stopped, and waits until it answers.
    pub fn start_again(&mut self) {
        let log = fs::File::create(self.directory.join("log")).unwrap();
        let mut server = self.program("postgres");
        server.arg("-D").arg(self.directory.join("data")).arg("-k").arg(&self.directory);
        for setting in ["listen_addresses=", "fsync=off", "shared_buffers=8MB", "max_connections=30"] {
            server.args(["-c", setting]);
        }
        self.server = Some(server.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        for _ in 0..600 {
            let ready = self.program("pg_isready").args(["--quiet", "--host"]).arg(&self.directory).status().unwrap();
            if ready.success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{}", fs::read_to_string(self.directory.join("log")).unwrap_or_default());
    }

    /// Stops it in the middle of whatever it does, as a crash would: connections break, and what was not committed is gone.
    pub fn kill(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        Command::new("kill").args(["-QUIT", &server.id().to_string()]).status().unwrap();
        server.wait().unwrap();
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("postgres://{USER}@localhost/postgres?host={}", self.directory.display())
    }

    /// A file that holds its URL.
    pub fn url_file(&self) -> PathBuf {
        self.directory.join("url")
    }

    fn program(&self, name: &str) -> Command {
        let (user, group) = owner(&self.directory);
        let mut command = Command::new(programs().join(name));
        command.uid(user).gid(group).current_dir(&self.directory).env("LC_ALL", "C");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The programs of the newest version.
fn programs() -> PathBuf {
    let versions = fs::read_dir(VERSIONS).map(|all| all.flatten().map(|entry| entry.path().join("bin")));
    let newest = versions.ok().and_then(|all| all.filter(|bin| bin.join("initdb").exists()).max());
    newest.unwrap_or_else(|| panic!("there is no PostgreSQL in {VERSIONS}: `e2e/cluster/tools.sh unit` installs it"))
}

/// Whom the server runs as: who runs the test, or somebody else when that is root, whom PostgreSQL refuses.
fn owner(directory: &Path) -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(directory).unwrap();
    if metadata.uid() != 0 {
        return (metadata.uid(), metadata.gid());
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let postgres = users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|user| user[0] == "postgres");
    postgres.map_or((65534, 65534), |user| (user[2].parse().unwrap(), user[3].parse().unwrap()))
}

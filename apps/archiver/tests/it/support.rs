//! A gateway with a bot, the archiver as a process, and a reader of archives.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use serde_json::Value;
use stack_testkit::{Bot, PATIENCE, Person, Program, TestGateway};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

/// How often a file is looked at again.
const LOOK: std::time::Duration = std::time::Duration::from_millis(10);

/// Everything of one test.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) gateway: TestGateway,
    pub(crate) admin: Person,
    pub(crate) bot: Bot,
}

impl World {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gateway = gateway(folder.path()).await;
        let admin = gateway.administrator("root").await;
        let bot = admin.bot("Archive", &["read"]).await;
        let world = Self {
            folder,
            gateway,
            admin,
            bot,
        };
        world.write_token(&world.bot.token);
        world
    }

    /// A room with the bot in it.
    pub(crate) async fn room(&self, id: &str) {
        self.admin.room(id, false).await;
        self.admin.bring(id, &self.bot.id).await;
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write_token(&self, token: &str) {
        fs::write(self.path("token"), token).unwrap();
        fs::set_permissions(self.path("token"), Permissions::from_mode(0o600)).unwrap();
    }

    /// The archiver, with further arguments.
    pub(crate) fn archiver(&self, dir: &Path, arguments: &[&str]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stack-archiver"));
        command
            .env_clear()
            .arg("--socket")
            .arg(self.path("gateway.sock"))
            .arg("--token-file")
            .arg(self.path("token"))
            .arg("--dir")
            .arg(dir)
            .args(arguments);
        Program::start(&mut command)
    }

    /// Waits until the archive has as many lines of a room as the room has events, and says whether it is all of them.
    pub(crate) async fn is_kept(&self, dir: &Path, room: &str) {
        let log = self.admin.log(room).await;
        reaches(dir, room, log.len() as u64).await;
        let kept = lines(dir, room);
        for (index, (kept, event)) in kept.iter().zip(&log).enumerate() {
            assert_eq!(kept, event, "{room}: line {}", index + 1);
        }
        assert_eq!(kept.len(), log.len(), "{room}");
    }
}

/// A gateway in memory, with its socket in a folder.
pub(crate) async fn gateway(folder: &Path) -> TestGateway {
    let path = folder.join("gateway.sock");
    TestGateway::with(|config| config.ipc.path = Some(path)).await
}

/// How far an archive goes.
pub(crate) fn cursor(dir: &Path, room: &str) -> u64 {
    let Ok(text) = fs::read(dir.join(room).join("cursor.json")) else {
        return 0;
    };
    let cursor: Value = serde_json::from_slice(&text).unwrap();
    cursor["seq"].as_u64().unwrap()
}

/// Waits until an archive goes so far. Then nothing of it is being written, unless there is more to come.
pub(crate) async fn reaches(dir: &Path, room: &str, seq: u64) {
    let done = async {
        while cursor(dir, room) < seq {
            sleep(LOOK).await;
        }
    };
    let done = timeout(PATIENCE * 3, done).await;
    assert!(done.is_ok(), "{room}: {} of {seq}", cursor(dir, room));
}

/// The files of a room that hold lines, in order.
pub(crate) fn files(dir: &Path, room: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir.join(room)) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().contains(".jsonl.gz"));
    files.sort();
    files
}

/// The finished files and what they hold.
pub(crate) fn finished(dir: &Path, room: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = files(dir, room);
    files.retain(|path| path.extension().is_some_and(|extension| extension == "gz"));
    let read = |path: PathBuf| (path.clone(), fs::read(path).unwrap());
    files.into_iter().map(read).collect()
}

/// Every line that is kept of a room.
pub(crate) fn lines(dir: &Path, room: &str) -> Vec<Value> {
    loop {
        // A file may be finished, and called something else, between the look and the reading.
        if let Some(text) = text(&files(dir, room)) {
            let lines = text.lines().map(serde_json::from_str);
            return lines.collect::<Result<_, _>>().unwrap();
        }
    }
}

fn text(files: &[PathBuf]) -> Option<String> {
    let mut text = String::new();
    for path in files {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            file => file.unwrap(),
        };
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path:?}");
        MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    }
    Some(text)
}

//! A gateway with a bot's account, the bot as a process, and a reader of its answers.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use stack_testkit::{Bot, PATIENCE, Person, Program, TestGateway};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

/// How often the log is looked at again.
const LOOK: Duration = Duration::from_millis(20);

/// The room of every test.
pub(crate) const ROOM: &str = "general";

/// Settings that no test runs into.
pub(crate) const WIDE: &str = r#"
[limits]
user_burst = 1000
room_burst = 1000
user_every = "1s"
room_every = "1s"
"#;

/// Everything of one test.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) gateway: TestGateway,
    pub(crate) admin: Person,
    pub(crate) bot: Bot,
}

impl World {
    /// A gateway in memory, and a room with the bot in it.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.sock");
        let gateway = TestGateway::with(|config| config.ipc.path = Some(path)).await;
        let admin = gateway.administrator("root").await;
        let bot = admin.bot("Helper", &["read", "send"]).await;
        let token = folder.path().join("token");
        fs::write(&token, &bot.token).unwrap();
        fs::set_permissions(&token, Permissions::from_mode(0o600)).unwrap();
        admin.room(ROOM, false).await;
        admin.bring(ROOM, &bot.id).await;
        Self {
            folder,
            gateway,
            admin,
            bot,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration: the necessary, `settings` in front of the tables, and `tables`.
    pub(crate) fn configure(&self, settings: &str, tables: &str) {
        let necessary = "socket = 'gateway.sock'\ntoken_file = 'token'\nstate_dir = 'state'\n";
        let text = format!("{necessary}{settings}\n{tables}");
        fs::write(self.path("bot.toml"), text).unwrap();
    }

    /// The bot with further arguments.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stack-bot"));
        command
            .env_clear()
            .env("SECRET", "of the bot")
            .arg("--config")
            .arg(self.path("bot.toml"))
            .args(arguments);
        Program::start(&mut command)
    }

    /// The bot, reading its room.
    pub(crate) async fn start(&self) -> Program {
        let mut process = self.spawn(&[]);
        process.says("reads general").await;
        process
    }

    /// Says something as the administrator.
    pub(crate) async fn say(&self, body: &str) -> u64 {
        self.admin.say(ROOM, body).await
    }

    /// Everything that the bot has said: to which message, and what.
    pub(crate) async fn said(&self) -> Vec<(u64, String)> {
        let log = self.admin.log(ROOM).await;
        let payloads = log.iter().map(|event| &event["payload"]);
        let own = payloads.filter(|payload| payload["sender"] == self.bot.id.as_str());
        let said = own.filter_map(|payload: &Value| {
            Some((
                payload["reply_to"].as_u64()?,
                payload["body"].as_str()?.to_owned(),
            ))
        });
        said.collect()
    }

    /// What it has said to a message, once it has said so much.
    pub(crate) async fn answers(&self, seq: u64, count: usize) -> Vec<String> {
        let mut answers = Vec::new();
        let come = async {
            loop {
                let said = self.said().await.into_iter();
                answers = said
                    .filter(|(to, _)| *to == seq)
                    .map(|(_, body)| body)
                    .collect();
                if answers.len() >= count {
                    return;
                }
                sleep(LOOK).await;
            }
        };
        let come = timeout(PATIENCE, come).await;
        assert!(come.is_ok(), "{seq}: {answers:?}");
        answers
    }

    /// Its one answer to a message.
    pub(crate) async fn answer(&self, seq: u64) -> String {
        let mut answers = self.answers(seq, 1).await;
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.remove(0)
    }

    /// Says something and gives the answer to it.
    pub(crate) async fn ask(&self, body: &str) -> String {
        let seq = self.say(body).await;
        self.answer(seq).await
    }
}

/// A command that runs a script.
pub(crate) fn script(name: &str, script: &str, more: &str) -> String {
    format!(
        "[commands.{name}]\nprogram = '/bin/sh'\nargs = ['-c', '''{script}''', '{name}']\n\
         env = {{ PATH = '/usr/bin:/bin' }}\n{more}\n"
    )
}

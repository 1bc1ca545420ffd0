//! The commands that look after a gateway: each beside one that runs, and on its file when none does.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use stack_proto::JsonCodec;
use stack_storage::{
    AccountKind, AuditAction, AuditEntry, AuditOutcome, CreateRoom, Delivery, Location, NewSession,
    NewUser, SignInMethod, Store, StoreConfig,
};
use stack_testkit::{PASSWORD, PATIENCE};
use stack_types::{
    Clock as _, EventBody, EventDraft, GlobalRole, RoomSettings, SessionId, SystemClock, UserId,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use crate::process::{output, program, signal, started};

/// A folder with a gateway's data, and the gateway while it runs.
pub(crate) struct Home {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) gateway: Option<(Child, String)>,
}

impl Home {
    pub(crate) async fn started() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gateway = Some(started(&folder).await);
        Self { folder, gateway }
    }

    pub(crate) async fn start(&mut self) {
        self.gateway = Some(started(&self.folder).await);
    }

    pub(crate) async fn stop(&mut self) {
        let (mut child, _) = self.gateway.take().unwrap();
        signal(&child, "TERM");
        let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
        assert!(status.success());
    }

    pub(crate) fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = program(arguments);
        command
            .args(["--log", "warn", "--data-dir"])
            .arg(self.data());
        command.current_dir(self.folder.path());
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        output(&mut self.command(arguments)).await
    }

    /// What a command that goes well writes.
    pub(crate) async fn told(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments).await;
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {complaint}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same as JSON lines.
    pub(crate) async fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let told = self.told(&[arguments, &["--json"]].concat()).await;
        let parse = |line| serde_json::from_str(line).unwrap();
        told.lines().map(parse).collect()
    }

    /// What a command that is refused says.
    pub(crate) async fn refused(&self, arguments: &[&str], code: i32) -> String {
        let output = self.run(arguments).await;
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {complaint}"
        );
        assert_eq!(output.stdout, b"", "{arguments:?}");
        complaint
    }

    pub(crate) async fn post(&self, path: &str, token: Option<&str>, body: Value) -> Value {
        let (_, origin) = self.gateway.as_ref().unwrap();
        let mut request = reqwest::Client::new()
            .post(format!("{origin}/api/v1{path}"))
            .header("user-agent", "test/1")
            .json(&body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status();
        let body = answer.text().await.unwrap();
        assert!(status.is_success(), "{path}: {body}");
        serde_json::from_str(&body).unwrap_or_default()
    }

    /// Makes an account, and gives its token and id.
    pub(crate) async fn register(&self, name: &str) -> (String, String) {
        let person = json!({ "username": name, "password": PASSWORD });
        let answer = self.post("/auth/register", None, person).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&answer["access_token"]), text(&answer["user"]["id"]))
    }

    pub(crate) async fn room(&self, token: &str, id: &str, title: &str, public: bool) {
        let room = json!({ "id": id, "title": title, "settings": { "public": public } });
        self.post("/rooms", Some(token), room).await;
    }

    pub(crate) async fn say(&self, token: &str, room: &str, body: &str) {
        let path = format!("/rooms/{room}/messages");
        self.post(&path, Some(token), json!({ "body": body })).await;
    }
}

/// Every time is another; they all have the same width.
fn without_times(text: &str) -> String {
    let mut seen = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("Z") {
        let (before, behind) = rest.split_at(at + 1);
        match before.len().checked_sub("2026-11-21 06:41:26Z".len()) {
            Some(start) if is_time(&before[start..]) => {
                seen.push_str(&before[..start]);
                seen.push_str("<------- time ----->");
            }
            _ => seen.push_str(before),
        }
        rest = behind;
    }
    seen + rest
}

fn is_time(text: &str) -> bool {
    let shape = text.bytes().map(|byte| match byte {
        b'0'..=b'9' => b'0',
        other => other,
    });
    shape.eq(*b"0000-00-00 00:00:00Z")
}

#[tokio::test]
async fn accounts_rooms_and_sessions_are_listed_the_same_beside_a_gateway_and_without() {
    let mut home = Home::started().await;
    let (ann, ann_id) = home.register("ann").await;
    let (_, bob_id) = home.register("bob").await;
    home.room(&ann, "general", "General", true).await;
    home.room(&ann, "quiet", "Quiet", false).await;
    home.say(&ann, "general", "hello").await;
    for running in [true, false] {
        if !running {
            home.stop().await;
        }
        let users = without_times(&home.told(&["users", "list"]).await);
        let expected = format!(
            "\
ID                      USERNAME  ROLE    STATE   MADE                  NAME
{ann_id}  ann       member  active  <------- time ----->  ann
{bob_id}  bob       member  active  <------- time ----->  bob
"
        );
        assert_eq!(users, expected, "{running}");
        let users = home.json(&["users", "list"]).await;
        let mut first = users[0].clone();
        assert!(first["created_at"].take().as_u64().unwrap() > 1_700_000_000_000);
        let expected = json!({
            "id": ann_id, "username": "ann", "display_name": "ann", "role": "member",
            "created_at": null, "disabled": false, "bot": false,
        });
        assert_eq!((users.len(), first), (2, expected));

        let rooms = without_times(&home.told(&["rooms", "list"]).await);
        let expected = "\
ROOM     MEMBERS  EVENTS  LAST  ACCESS   MADE                  TITLE
general        1       2     2  public   <------- time ----->  General
quiet          1       1     1  private  <------- time ----->  Quiet
";
        assert_eq!(rooms, expected, "{running}");
        let rooms = home.json(&["rooms", "list"]).await;
        assert_eq!(
            (&rooms[0]["id"], &rooms[0]["head"]),
            (&json!("general"), &json!(2))
        );
        assert_eq!(rooms[1]["settings"]["public"], json!(false));

        let sessions = home.json(&["sessions", "list", "ann"]).await;
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions[0]["user_id"], json!(ann_id));
        let id = sessions[0]["id"].as_str().unwrap();
        let table = without_times(&home.told(&["sessions", "list", &ann_id]).await);
        let expected = format!(
            "\
ID                      SIGNED IN             LAST SEEN             FROM       DEVICE
{id}  <------- time ----->  <------- time ----->  127.0.0.1  test/1
"
        );
        assert_eq!(table, expected, "{running}");
        let nobody = home.refused(&["sessions", "list", "nobody"], 1).await;
        assert!(nobody.contains("there is no such account"), "{nobody}");
    }
}

#[tokio::test]
async fn a_message_is_traced_beside_a_gateway_and_by_no_other() {
    let mut home = Home::started().await;
    let (ann, ann_id) = home.register("ann").await;
    home.room(&ann, "general", "General", false).await;
    home.say(&ann, "general", "hello").await;
    let told = home.told(&["trace", "general", "2"]).await;
    assert!(told.starts_with("general 2: message of ann, "), "{told}");
    assert!(
        told.contains("they have sent it") && !told.contains("hello"),
        "{told}"
    );
    let found = home
        .json(&["trace", "general", "2", "--user", &ann_id])
        .await;
    assert_eq!((found.len(), &found[0]["message"]["seq"]), (1, &json!(2)));
    assert_eq!(found[0]["people"][0]["arrival"], "sent");
    for (arguments, said) in [
        (
            ["trace", "general", "3"],
            "there is no event 3 in this room; its last is 2",
        ),
        (["trace", "nowhere", "1"], "there is no such room"),
        (["trace", "No Room", "1"], "a room id is"),
    ] {
        let complaint = home.refused(&arguments, 1).await;
        assert!(complaint.contains(said), "{complaint}");
    }
    home.refused(&["trace", "general", "two"], 2).await;
    home.stop().await;
    let complaint = home.refused(&["trace", "general", "2"], 1).await;
    assert!(
        complaint.contains("no gateway can be reached"),
        "{complaint}"
    );
    let log = home.json(&["audit", "--action", "message_traced"]).await;
    let entries: Vec<_> = (log.iter())
        .map(|entry| [&entry["target"], &entry["outcome"]].map(|text| text.as_str().unwrap()))
        .collect();
    let of_ann = format!("general 2 {ann_id}");
    // Newest first. What somebody typed is not on record.
    let expected = [
        ["- 1", "refused"],
        ["general 3", "refused"],
        [&of_ann, "ok"],
        ["general 2", "ok"],
    ];
    assert_eq!(entries, expected);
}

#[tokio::test]
async fn accounts_are_looked_after_beside_a_gateway_and_without_and_it_is_on_record() {
    let mut home = Home::started().await;
    home.register("ann").await;
    home.register("bob").await;
    for running in [true, false] {
        if !running {
            home.stop().await;
        }
        let promoted = home.told(&["users", "promote", "Ann"]).await;
        assert_eq!(promoted, "ann is an administrator now\n");
        let disabled = home.told(&["users", "disable", "bob"]).await;
        assert_eq!(disabled, "bob is disabled now\n");
        let users = home.json(&["users", "list"]).await;
        assert_eq!(
            (&users[0]["role"], &users[1]["disabled"]),
            (&json!("admin"), &json!(true))
        );
        let enabled = home.json(&["users", "enable", "bob"]).await;
        assert_eq!(enabled, [json!({ "username": "bob", "disabled": false })]);
        let link = home.told(&["users", "recover", "bob"]).await;
        assert!(
            link.starts_with("http://") && link.contains("/recover#"),
            "{link}"
        );
        let last = home.refused(&["users", "disable", "ann"], 1).await;
        assert!(last.contains("last admin"), "{last}");
        let nobody = home.refused(&["users", "promote", "nobody"], 1).await;
        assert!(nobody.contains("there is no user nobody"), "{nobody}");
    }
    let log = home.json(&["audit"]).await;
    let by_operator: Vec<_> = log
        .iter()
        .filter(|entry| entry["ip"] == json!(""))
        .map(|entry| entry["action"].as_str().unwrap())
        .collect();
    let once = [
        "recovery_link_made",
        "account_enabled",
        "account_disabled",
        "role_changed",
    ];
    assert_eq!(by_operator, [once, once].concat());
    let table = home.told(&["audit", "--action", "role_changed"]).await;
    let mut lines = table.lines();
    let heads: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(heads, ["TIME", "ACTION", "OUTCOME", "BY", "FROM", "TARGET"]);
    let line = without_times(lines.next().unwrap());
    assert!(
        line.contains("role_changed  ok       operator  -     "),
        "{line}"
    );
    assert_eq!(lines.count(), 1);
}

#[tokio::test]
async fn a_revoked_session_is_out_at_once() {
    let mut home = Home::started().await;
    let (ann, _) = home.register("ann").await;
    let (_, origin) = home.gateway.as_ref().unwrap();
    let me = reqwest::Client::new().get(format!("{origin}/api/v1/me"));
    let me = async |token: &str| {
        let asked = me.try_clone().unwrap().bearer_auth(token);
        asked.send().await.unwrap().status().as_u16()
    };
    let login = json!({ "login": "ann", "password": PASSWORD });
    let second = home.post("/auth/login", None, login).await;
    let second = second["access_token"].as_str().unwrap();
    assert_eq!((me(&ann).await, me(second).await), (200, 200));

    let sessions = home.json(&["sessions", "list", "ann"]).await;
    let first = sessions[0]["id"].as_str().unwrap().to_owned();
    let one = home.told(&["sessions", "revoke", "ann", &first]).await;
    assert_eq!(one, "one session was ended\n");
    assert_eq!((me(&ann).await, me(second).await), (401, 200));
    let again = home
        .refused(&["sessions", "revoke", "ann", &first], 1)
        .await;
    assert!(again.contains("no such session"), "{again}");
    let all = home.json(&["sessions", "revoke", "ann"]).await;
    assert_eq!(all, [json!({ "ended": 1 })]);
    assert_eq!(me(second).await, 401);
    home.stop().await;
    let none = home.told(&["sessions", "revoke", "ann"]).await;
    assert_eq!(none, "0 sessions were ended\n");
}

#[tokio::test]
async fn a_snapshot_that_is_not_where_it_was_asked_for_is_told() {
    let mut home = Home::started().await;
    let private = home.folder.path().join("private");
    std::fs::create_dir(&private).unwrap();
    // Another disk stands there for the command, as a /tmp of its own does for a service.
    let script = "mount -t tmpfs none \"$1\" && shift && exec \"$@\"";
    let file = private.join("copy.redb");
    let mut command = tokio::process::Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(&private)
        .arg(env!("CARGO_BIN_EXE_stack-gateway"))
        .args(["snapshot", file.to_str().unwrap(), "--data-dir"])
        .arg(home.data());
    let done = output(&mut command).await;
    let told = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert!(
        told.contains("has other folders than this command"),
        "{told}"
    );
    home.stop().await;
}

#[tokio::test]
async fn a_snapshot_is_a_file_that_a_gateway_starts_on() {
    let mut home = Home::started().await;
    let (ann, _) = home.register("ann").await;
    home.room(&ann, "general", "General", true).await;
    for running in [true, false] {
        if !running {
            home.stop().await;
        }
        let folder = home.folder.path().join(format!("copy-{running}"));
        std::fs::create_dir(&folder).unwrap();
        home.say_if(running, &ann).await;
        let file = format!("copy-{running}/stack.redb");
        let made = home.json(&["snapshot", &file]).await;
        let bytes = std::fs::metadata(folder.join("stack.redb")).unwrap().len();
        assert_eq!(made[0]["bytes"], json!(bytes));
        assert_eq!(
            Path::new(made[0]["path"].as_str().unwrap()),
            folder.join("stack.redb")
        );
        assert_private(&folder.join("stack.redb"));

        let again = home.refused(&["snapshot", &file], 1).await;
        assert!(again.contains("is there already"), "{again}");
        let nowhere = home.refused(&["snapshot", "no/folder/copy"], 1).await;
        assert!(nowhere.contains("the folder of"), "{nowhere}");

        let mut copy = program(&["rooms", "list", "--json", "--log", "warn", "--data-dir"]);
        let there = output(copy.arg(&folder).current_dir(home.folder.path())).await;
        let here = home.told(&["rooms", "list", "--json"]).await;
        assert_eq!(String::from_utf8(there.stdout).unwrap(), here);
    }
    let made = home.json(&["audit", "--action", "snapshot_made"]).await;
    assert_eq!(made.len(), 2);
    assert!(made.iter().all(|entry| entry["actor"].is_null()));
}

impl Home {
    async fn say_if(&self, running: bool, token: &str) {
        if running {
            self.say(token, "general", "hello").await;
        }
    }
}

#[cfg(unix)]
pub(crate) fn assert_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[cfg(not(unix))]
pub(crate) fn assert_private(_: &Path) {}

#[tokio::test]
async fn what_only_a_running_gateway_can_do_says_so() {
    let mut home = Home::started().await;
    home.stop().await;
    for arguments in [&["stats"][..], &["tail", "general"]] {
        let away = home.refused(arguments, 1).await;
        assert!(away.contains("no gateway can be reached at"), "{away}");
        assert!(away.contains("gateway.sock"), "{away}");
    }
    // A socket that was named is meant, and no file instead.
    let named = home
        .refused(&["users", "list", "--ipc-path", "other.sock"], 1)
        .await;
    assert!(named.contains("other.sock"), "{named}");
    let empty = tempfile::tempdir().unwrap();
    let mut command = program(&["users", "list", "--data-dir"]);
    let missing = output(command.arg(empty.path().join("data"))).await;
    assert_eq!(missing.status.code(), Some(1));
    let missing = String::from_utf8(missing.stderr).unwrap();
    assert!(missing.contains("there is no database"), "{missing}");
    for wrong in [
        &["users"][..],
        &["sessions", "list"],
        &["tail", "a", "--after", "x"],
    ] {
        home.refused(wrong, 2).await;
    }
    let room = home.refused(&["tail", "No Room"], 1).await;
    assert!(room.contains("a room id is"), "{room}");
}

/// What a terminal would obey: colours, a cleared screen, ANSI in one byte, another direction, a bell, a tag.
const HOSTILE: &str =
    "x\u{1b}[31m\u{1b}[2J\u{9b}1m\u{202e}gpj.exe\u{2066}\u{200f}\u{7}\r\n\u{e0041}y";

/// A file with hostile names in it, however they got there: our own doors take none of them.
async fn hostile_file(data: &Path) {
    std::fs::create_dir(data).unwrap();
    let config = StoreConfig {
        location: Location::File(data.join("stack.redb")),
        ..StoreConfig::default()
    };
    let codec = Arc::new(JsonCodec);
    let (store, handle, commits) = Store::open(config, codec, Arc::new(SystemClock)).unwrap();
    let now = SystemClock.now();
    let id = UserId::generate(now);
    let user = NewUser {
        id,
        username: "mallory".parse().unwrap(),
        display_name: HOSTILE.to_owned(),
        email: None,
        email_verified: false,
        password_hash: None,
        role: GlobalRole::Member,
        kind: AccountKind::Person,
        invite: None,
    };
    let session = NewSession {
        id: SessionId::generate(now),
        user_id: id,
        device: HOSTILE.to_owned(),
        ip: HOSTILE.to_owned(),
        delivery: Delivery::Body,
        method: SignInMethod::Password,
        refresh: [7; 32],
        lifetime: Duration::from_secs(3600),
        idle: Duration::from_secs(3600),
    };
    let entry = AuditEntry {
        actor: Some(id),
        ip: HOSTILE.to_owned(),
        session: None,
        action: AuditAction::Register,
        target: Some(HOSTILE.to_owned()),
        outcome: AuditOutcome::Ok,
    };
    store.register(user, session, entry).await.unwrap().unwrap();
    let room = CreateRoom {
        id: "den".parse().unwrap(),
        title: HOSTILE.to_owned(),
        settings: RoomSettings::default(),
        owner: id,
    };
    let room = store.create_room(room).await.unwrap().unwrap();
    let draft = EventDraft {
        sender: id,
        body: EventBody::Message {
            body: HOSTILE.to_owned(),
            data: None,
            key: None,
            reply_to: None,
        },
    };
    store
        .room_op(room.id(), |tx| Ok(tx.append(draft)))
        .await
        .unwrap();
    drop((store, commits, room));
    handle.shutdown().await;
}

fn assert_tame(text: &str) {
    let obeyed = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}')
    };
    assert!(!text.chars().any(obeyed), "{text:?}");
    assert!(
        text.contains("gpj.exe"),
        "it is told all the same: {text:?}"
    );
}

#[tokio::test]
async fn what_a_terminal_obeys_does_not_reach_it() {
    let folder = tempfile::tempdir().unwrap();
    hostile_file(&folder.path().join("data")).await;
    let mut home = Home {
        folder,
        gateway: None,
    };
    for running in [false, true] {
        if running {
            home.start().await;
        }
        for arguments in [
            &["users", "list"][..],
            &["rooms", "list"],
            &["sessions", "list", "mallory"],
            &["audit", "--action", "register"],
        ] {
            let table = home.told(arguments).await;
            assert_tame(&table);
            assert_eq!(table.lines().count(), 2, "{table}");
            let json = home.told(&[arguments, &["--json"]].concat()).await;
            assert_tame(&json);
            assert_eq!(json.lines().count(), 1);
        }
        let user = home.json(&["users", "list"]).await.remove(0);
        assert_eq!(
            user["display_name"],
            json!(HOSTILE),
            "programs get it whole"
        );
        let refused = home.refused(&["users", "promote", HOSTILE], 1).await;
        assert!(!refused.contains('\u{1b}') && !refused.contains('\u{202e}'));
    }
    let mut tail = Tail::start(&home, &["tail", "den", "--after", "0"]);
    let (made, said) = (tail.line().await, tail.line().await);
    assert_tame(&made);
    assert_tame(&said);
    assert!(said.contains("  mallory  x\\u{1b}[31m"), "{said}");
    let mut tail = Tail::start(&home, &["tail", "den", "--after", "1", "--json"]);
    let said = tail.line().await;
    assert_tame(&said);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["payload"]["body"], json!(HOSTILE));
}

/// A `tail` that runs.
struct Tail {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tail {
    fn start(home: &Home, arguments: &[&str]) -> Self {
        let mut command = home.command(arguments);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    async fn line(&mut self) -> String {
        let line = timeout(PATIENCE, self.lines.next_line()).await;
        line.unwrap().unwrap().unwrap()
    }

    /// Waits until it says this on standard error.
    async fn says(&mut self, what: &str) {
        let stderr = self.child.stderr.as_mut().unwrap();
        let mut said = Vec::new();
        let heard = async {
            while !String::from_utf8_lossy(&said).contains(what) {
                let byte = stderr.read_u8().await.unwrap();
                said.push(byte);
            }
        };
        timeout(PATIENCE, heard).await.unwrap();
    }
}

#[tokio::test]
async fn a_tail_shows_what_is_said_goes_on_after_a_restart_and_ends_by_ctrl_c() {
    let mut home = Home::started().await;
    let (ann, ann_id) = home.register("ann").await;
    home.room(&ann, "general", "General", false).await;
    home.say(&ann, "general", "before").await;
    let mut tail = Tail::start(&home, &["tail", "general", "--after", "0"]);
    let line = async |tail: &mut Tail| without_times(&tail.line().await);
    assert_eq!(
        line(&mut tail).await,
        "<------- time ----->       1  ann  -- made the room: General"
    );
    assert_eq!(
        line(&mut tail).await,
        "<------- time ----->       2  ann  before"
    );
    home.say(&ann, "general", "live").await;
    assert_eq!(
        line(&mut tail).await,
        "<------- time ----->       3  ann  live"
    );
    let mut json = Tail::start(&home, &["tail", "general", "--after", "2", "--json"]);
    let event: Value = serde_json::from_str(&json.line().await).unwrap();
    assert_eq!(
        (&event["type"], &event["payload"]["seq"]),
        (&json!("message"), &json!(3))
    );
    assert_eq!(event["payload"]["sender"], json!(ann_id));

    home.stop().await;
    tail.says("the gateway is away; waiting for it").await;
    home.start().await;
    home.say(&ann, "general", "after").await;
    assert_eq!(
        line(&mut tail).await,
        "<------- time ----->       4  ann  after"
    );
    let event: Value = serde_json::from_str(&json.line().await).unwrap();
    assert_eq!(event["payload"]["body"], json!("after"));

    signal(&tail.child, "INT");
    let status = timeout(PATIENCE, tail.child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    assert!(
        tail.lines.next_line().await.unwrap().is_none(),
        "nothing came twice"
    );

    // Whoever does not take the output any more ends it too, also when nothing is said.
    let Tail { mut child, lines } = json;
    drop(lines);
    let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    let mut complaint = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut complaint).await.unwrap();
    assert!(
        status.success() && !complaint.contains("panicked"),
        "{complaint}"
    );

    let beyond = home.refused(&["tail", "general", "--after", "99"], 1).await;
    assert!(beyond.contains("beyond the room's last event"), "{beyond}");
    let nowhere = home.refused(&["tail", "nowhere"], 1).await;
    assert!(nowhere.contains("there is no such room"), "{nowhere}");
    let tailed = home.json(&["audit", "--action", "room_tailed"]).await;
    assert!(tailed.iter().all(|entry| entry["target"] == "general"));
    // Once for each connection.
    assert_eq!(tailed.len(), 4);
}

#[tokio::test]
async fn output_that_nobody_takes_is_no_fault() {
    let home = Home::started().await;
    home.register("ann").await;
    for arguments in [
        &["users", "list"][..],
        &["audit"],
        &["stats", "--json"],
        &["config", "default"],
    ] {
        let mut command = home.command(arguments);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let closed = output(command.stdout(writer)).await;
        let complaint = String::from_utf8_lossy(&closed.stderr);
        assert!(closed.status.success(), "{arguments:?}: {complaint}");
        assert_eq!(complaint, "", "{arguments:?}");
    }
}

#[tokio::test]
async fn figures_are_those_of_the_running_gateway() {
    let home = Home::started().await;
    let (ann, _) = home.register("ann").await;
    home.room(&ann, "general", "General", true).await;
    let stats = home.json(&["stats"]).await;
    let figure = |name: &str| {
        let found = stats.iter().find(|figure| figure["name"] == json!(name));
        found.unwrap_or_else(|| panic!("{name}: {stats:?}"))
    };
    assert_eq!(figure("users")["value"], json!(1));
    assert_eq!(figure("rooms")["value"], json!(1));
    assert_eq!(figure("sockets")["value"], json!(0), "nobody is here");
    assert_eq!(figure("file")["unit"], json!("bytes"));
    assert!(figure("file")["value"].as_u64().unwrap() > 4096);
    assert!(figure("commit.count")["value"].as_u64().unwrap() >= 2);
    for name in [
        "commit.sum",
        "http_connections",
        "sockets",
        "live_deliveries",
        "catch_up_deliveries",
        "fell_behind",
        "bus_dropped",
        "connections_refused",
    ] {
        assert!(figure(name)["value"].is_number());
    }
    let table = home.told(&["stats"]).await;
    assert!(table.starts_with("FIGURE "), "{table}");
    let users = table.lines().nth(1).unwrap().split_whitespace();
    assert_eq!(users.collect::<Vec<_>>(), ["users", "1"]);
}

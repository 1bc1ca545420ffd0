//! Copies that travel, backups on a schedule, and what is made of them: looked over, restored, made smaller.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use stack_testkit::{PASSWORD, PATIENCE};
use tokio::io::AsyncReadExt as _;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::command::{Home, assert_private};
use crate::process::{output, program};

const RATE_OFF: &str = "rate.enabled = false\n";

impl Home {
    /// A gateway with a `stack.toml`.
    async fn configured(toml: &str) -> Self {
        let mut home = Self {
            folder: tempfile::tempdir().unwrap(),
            gateway: None,
        };
        std::fs::write(home.path("stack.toml"), toml).unwrap();
        home.start().await;
        home
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn origin(&self) -> String {
        self.gateway.as_ref().unwrap().1.clone()
    }

    /// Two files of `age-keygen`, and the public key of each.
    fn keys(&self) -> [String; 2] {
        ["key.txt", "other.txt"].map(|name| {
            let made = std::process::Command::new("age-keygen")
                .arg("-o")
                .arg(self.path(name))
                .output()
                .expect("age-keygen, of Debian's package age, is installed by scripts/test");
            assert!(made.status.success());
            let text = std::fs::read_to_string(self.path(name)).unwrap();
            let public = text
                .lines()
                .find_map(|line| line.split_once("public key: "));
            public.unwrap().1.to_owned()
        })
    }

    /// What `/metrics` says of something.
    async fn measured(&self, name: &str) -> f64 {
        let text = reqwest::get(format!("{}/metrics", self.origin()));
        let text = text.await.unwrap().text().await.unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap().trim().parse().unwrap()
    }

    /// Waits until a measure has got so far.
    async fn until(&self, name: &str, least: f64) {
        timeout(PATIENCE, async {
            while self.measured(name).await < least {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap_or_else(|_| panic!("{name} does not get to {least}"));
    }

    /// The events of a room as its readers get them, by number.
    async fn events(&self, token: &str, room: &str) -> Vec<Value> {
        let http = reqwest::Client::new();
        let (mut events, mut after) = (Vec::new(), 0);
        loop {
            let origin = self.origin();
            let url = format!("{origin}/api/v1/rooms/{room}/messages?after={after}&limit=500");
            let answer = http.get(url).bearer_auth(token).send().await.unwrap();
            assert_eq!(answer.status(), 200);
            let page: Value = answer.json().await.unwrap();
            let page = page["events"].as_array().unwrap();
            if page.is_empty() {
                return events;
            }
            after += page.len();
            events.extend(page.iter().cloned());
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// What was acknowledged: in which room, under which number, and what it was.
type Acknowledged = Arc<Mutex<HashMap<(String, u64), String>>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_under_load_are_prefixes_of_what_was_acknowledged() {
    const ROOMS: [&str; 3] = ["one", "two", "three"];
    const COPIES: usize = 5;
    let home = Home::configured(RATE_OFF).await;
    let (ann, _) = home.register("ann").await;
    for room in ROOMS {
        home.room(&ann, room, room, true).await;
    }
    let acknowledged = Acknowledged::default();
    let mut writers = JoinSet::new();
    for room in ROOMS {
        let (seen, token, origin) = (acknowledged.clone(), ann.clone(), home.origin());
        writers.spawn(async move {
            let http = reqwest::Client::new();
            let url = format!("{origin}/api/v1/rooms/{room}/messages");
            for number in 0_u64.. {
                let body = format!("{room} {number}");
                let sent = http
                    .post(&url)
                    .bearer_auth(&token)
                    .json(&json!({ "body": body }));
                let answer = sent.send().await.unwrap();
                assert!(answer.status().is_success());
                let answer: Value = answer.json().await.unwrap();
                let seq = answer["seq"].as_u64().unwrap();
                seen.lock().insert((room.to_owned(), seq), body);
            }
        });
    }
    let mut before = Vec::new();
    for copy in 0..COPIES {
        before.push(acknowledged.lock().clone());
        let name = format!("copy-{copy}.redb");
        if copy % 2 == 0 {
            home.told(&["snapshot", &name]).await;
        } else {
            let output = home.run(&["snapshot", "-"]).await;
            assert!(output.status.success());
            std::fs::write(home.path(&name), output.stdout).unwrap();
        }
    }
    writers.shutdown().await;
    // One more of each may have been committed and never answered.
    let all = acknowledged.lock().clone();
    for (copy, before) in before.iter().enumerate() {
        let name = format!("copy-{copy}.redb");
        let folder = home.path(&format!("restored-{copy}"));
        std::fs::create_dir(&folder).unwrap();
        let to = folder.join("stack.redb");
        home.told(&["restore", &name, "--to", to.to_str().unwrap()])
            .await;
        let sound = home.json(&["verify", to.to_str().unwrap()]).await;
        let (store, handle, _commits) = open(&to);
        assert_eq!(sound[0]["rooms"].as_array().unwrap().len(), ROOMS.len());
        for room in sound[0]["rooms"].as_array().unwrap() {
            let id = room["id"].as_str().unwrap();
            let head = room["head"].as_u64().unwrap();
            assert_eq!(room["first"], json!(1));
            let missing = before.keys().any(|(room, seq)| room == id && *seq > head);
            assert!(!missing, "{name}: {id} ends at {head}");
            let bodies = bodies(&store, id).await;
            assert_eq!(bodies.len() as u64, head);
            let own = |body: &&String| body.starts_with(id);
            for (seq, body) in (1..).zip(&bodies).skip(1) {
                match all.get(&(id.to_owned(), seq)) {
                    Some(said) => assert_eq!(body, said),
                    // Under way when the writers were stopped.
                    None => assert!(own(&body) && seq == head, "{name}: {id} {seq} {body}"),
                }
            }
        }
        drop(store);
        handle.shutdown().await;
    }
    let seen: Vec<_> = before.iter().map(HashMap::len).collect();
    assert!(seen.windows(2).any(|pair| pair[0] < pair[1]), "{seen:?}");
}

fn open(
    path: &Path,
) -> (
    stack_storage::Store,
    stack_storage::StoreHandle,
    stack_storage::Commits,
) {
    let config = stack_storage::StoreConfig {
        location: stack_storage::Location::File(path.to_owned()),
        ..stack_storage::StoreConfig::default()
    };
    let codec = Arc::new(stack_proto::JsonCodec);
    stack_storage::Store::open(config, codec, Arc::new(stack_types::SystemClock)).unwrap()
}

/// What was said in a room; its making, which is its first event, stands for nothing said.
async fn bodies(store: &stack_storage::Store, room: &str) -> Vec<String> {
    use stack_types::EventCodec as _;

    let room = store.room(&room.parse().unwrap()).unwrap().unwrap();
    let all = stack_storage::PageLimit {
        events: usize::MAX,
        bytes: usize::MAX,
    };
    let page = store.page_after(&room, stack_types::Seq::ZERO, all);
    let frames = page.await.unwrap();
    let body = |json: &[u8]| match stack_proto::JsonCodec.decode(json).unwrap().body {
        stack_types::EventBody::Message { body, .. } => body,
        _ => String::new(),
    };
    frames.frames().iter().map(|json| body(&json)).collect()
}

#[tokio::test]
async fn a_copy_for_somebodys_key_is_opened_by_that_key_and_by_age_itself() {
    let home = Home::configured("").await;
    let [public, _] = home.keys();
    home.register("ann").await;
    home.told(&["snapshot", "sealed.age", "--recipient", &public])
        .await;
    let sealed = std::fs::read(home.path("sealed.age")).unwrap();
    assert!(sealed.starts_with(b"age-encryption.org/v1\n"));
    assert_private(&home.path("sealed.age"));

    // The other program that there is for these files.
    let opened = std::process::Command::new("age")
        .args([
            "--decrypt",
            "--identity",
            "key.txt",
            "--output",
            "opened.redb",
        ])
        .arg("sealed.age")
        .current_dir(home.folder.path())
        .status();
    assert!(opened.unwrap().success());
    let plain = home.json(&["verify", "opened.redb"]).await;
    let there = home
        .json(&["verify", "sealed.age", "--identity", "key.txt"])
        .await;
    assert_eq!(
        (&plain[0]["users"], &plain[0]["enciphered"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(
        (&there[0]["users"], &there[0]["enciphered"]),
        (&json!(1), &json!(true))
    );
    // And what age itself has made.
    let made = std::process::Command::new("age")
        .args([
            "--recipient",
            &public,
            "--output",
            "by-age.age",
            "opened.redb",
        ])
        .current_dir(home.folder.path())
        .status();
    assert!(made.unwrap().success());
    home.told(&["verify", "by-age.age", "--identity", "key.txt"])
        .await;

    let none = home.refused(&["verify", "sealed.age"], 1).await;
    assert!(none.contains("--identity"), "{none}");
    let wrong = ["verify", "sealed.age", "--identity", "other.txt"];
    let wrong = home.refused(&wrong, 1).await;
    assert!(wrong.contains("cannot be opened with this key"), "{wrong}");
    let no_key = ["verify", "sealed.age", "--identity", "stack.toml"];
    let no_key = home.refused(&no_key, 1).await;
    assert!(no_key.contains("there is no key in it"), "{no_key}");
    // The secret key instead of the public one is not repeated.
    let secret = std::fs::read_to_string(home.path("key.txt")).unwrap();
    let secret = secret.lines().last().unwrap();
    let swapped = home
        .refused(&["snapshot", "x.age", "--recipient", secret], 2)
        .await;
    assert!(!home.path("x.age").exists(), "{swapped}");

    for (name, bytes) in [
        ("short.age", &sealed[..sealed.len() - 1]),
        ("shorter.age", &sealed[..sealed.len() / 2]),
        ("shortest.age", &sealed[..100]),
        ("none.age", &sealed[..0]),
    ] {
        std::fs::write(home.path(name), bytes).unwrap();
        home.refused(&["verify", name, "--identity", "key.txt"], 1)
            .await;
        let restore = [
            "restore",
            name,
            "--identity",
            "key.txt",
            "--to",
            "never.redb",
        ];
        home.refused(&restore, 1).await;
    }
    for place in [3, 60, 150, 300, sealed.len() / 2, sealed.len() - 1] {
        let mut bytes = sealed.clone();
        bytes[place] ^= 1;
        std::fs::write(home.path("changed.age"), bytes).unwrap();
        let changed = [
            "restore",
            "changed.age",
            "--identity",
            "key.txt",
            "--to",
            "never.redb",
        ];
        home.refused(&changed, 1).await;
    }
    assert!(!home.path("never.redb").exists());
    assert!(!home.path("never.redb.part").exists());
}

#[tokio::test]
async fn what_is_restored_has_everything_but_who_was_signed_in() {
    let mut home = Home::configured("").await;
    let (ann, _) = home.register("ann").await;
    home.room(&ann, "general", "General", true).await;
    home.say(&ann, "general", "before").await;
    home.told(&["snapshot", "copy.redb"]).await;
    home.say(&ann, "general", "after").await;

    // Nothing is ever written over, least of all what a gateway has open.
    let database = home.data().join("stack.redb");
    let database = database.to_str().unwrap();
    for taken in [database, "copy.redb", "data"] {
        let refused = home
            .refused(&["restore", "copy.redb", "--to", taken], 1)
            .await;
        assert!(refused.contains("is there already"), "{refused}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", home.path("link")).unwrap();
        let through = home
            .refused(&["restore", "copy.redb", "--to", "link"], 1)
            .await;
        assert!(through.contains("is there already"), "{through}");
    }
    let nowhere = ["restore", "copy.redb", "--to", "no/such/stack.redb"];
    let nowhere = home.refused(&nowhere, 1).await;
    assert!(
        nowhere.contains("cannot write no/such/stack.redb"),
        "{nowhere}"
    );
    let foreign = home
        .refused(&["restore", "stack.toml", "--to", "x.redb"], 1)
        .await;
    assert!(foreign.contains("it is no backup"), "{foreign}");
    let missing = home
        .refused(&["restore", "missing.redb", "--to", "x.redb"], 1)
        .await;
    assert!(missing.contains("cannot read missing.redb"), "{missing}");

    home.stop().await;
    std::fs::remove_file(home.data().join("stack.redb")).unwrap();
    let restored = home.json(&["restore", "copy.redb", "--to", database]).await;
    assert_eq!(restored[0]["sessions_ended"], json!(1));
    assert_eq!(restored[0]["has_keys"], json!(true));
    assert_private(Path::new(database));
    assert!(
        !names(&home.data())
            .iter()
            .any(|name| name.ends_with(".part"))
    );
    home.start().await;
    let answer = reqwest::Client::new().get(format!("{}/api/v1/me", home.origin()));
    let answer = answer.bearer_auth(&ann).send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let login = json!({ "login": "ann", "password": PASSWORD });
    let again = home.post("/auth/login", None, login).await;
    let again = again["access_token"].as_str().unwrap();
    let events = home.events(again, "general").await;
    let last = &events.last().unwrap()["payload"];
    assert_eq!((&last["seq"], &last["body"]), (&json!(2), &json!("before")));
    home.say(again, "general", "another").await;
    let entries = home.json(&["audit", "--action", "database_restored"]).await;
    assert_eq!(entries.len(), 1);
}

#[tokio::test]
async fn a_file_in_use_is_neither_looked_over_nor_made_smaller() {
    let mut home = Home::configured("").await;
    let database = home.data().join("stack.redb");
    let database = database.to_str().unwrap();
    let looked = home.refused(&["verify", database], 1).await;
    assert!(looked.contains("in use by another process"), "{looked}");
    let compacted = home.refused(&["compact"], 1).await;
    assert!(compacted.contains("a gateway is running on"), "{compacted}");
    home.stop().await;
    home.told(&["verify", database]).await;
    let compacted = home.json(&["compact"]).await;
    let now = std::fs::metadata(database).unwrap().len();
    assert_eq!(compacted[0]["after"], json!(now));
    assert!(compacted[0]["before"].as_u64().unwrap() >= now);
    home.start().await;

    let mut nothing = program(&["compact", "--data-dir", "elsewhere"]);
    let nothing = output(nothing.current_dir(home.folder.path())).await;
    let complaint = String::from_utf8(nothing.stderr).unwrap();
    assert!(
        complaint.contains("there is no database in elsewhere"),
        "{complaint}"
    );
}

/// A pipe that nobody reads holds up the program at its end, and nothing else.
#[tokio::test]
async fn whoever_takes_a_copy_slowly_holds_nobody_up() {
    let home = Home::configured("").await;
    let mut slow = home.command(&["snapshot", "-"]);
    let mut slow = slow.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = slow.stdout.take().unwrap();
    let mut first = [0; 4];
    stdout.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"redb");
    home.told(&["snapshot", "copy.redb"]).await;
    // What the slow one takes has no name any more.
    assert!(!names(&home.data()).iter().any(|name| name.contains("copy")));
    let mut rest = first.to_vec();
    timeout(PATIENCE, stdout.read_to_end(&mut rest))
        .await
        .unwrap()
        .unwrap();
    assert!(slow.wait().await.unwrap().success());
    std::fs::write(home.path("slow.redb"), rest).unwrap();
    home.told(&["verify", "slow.redb"]).await;
}

/// A copy that ends early must not pass for one, as the first lines of a table do for all of it.
#[tokio::test]
async fn a_copy_that_nobody_takes_to_its_end_has_failed() {
    let home = Home::configured("").await;
    let mut child = home.command(&["snapshot", "-"]);
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 4]).await.unwrap();
    drop(stdout);
    let ended = timeout(PATIENCE, child.wait_with_output())
        .await
        .unwrap()
        .unwrap();
    let complaint = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{complaint}");
    assert!(
        complaint.contains("the copy was not taken whole"),
        "{complaint}"
    );
}

#[tokio::test]
async fn backups_are_made_on_time_and_the_oldest_go() {
    let mut home = Home {
        folder: tempfile::tempdir().unwrap(),
        gateway: None,
    };
    let [public, _] = home.keys();
    let backups = home.path("backups");
    std::fs::create_dir(&backups).unwrap();
    let others = [
        "notes.txt",
        "stack.redb",
        // The right name, and of a gateway that has not finished it.
        "stack-20200101T000000.000Z.redb.part",
    ];
    for other in others {
        std::fs::write(backups.join(other), b"x").unwrap();
    }
    let toml = format!(
        "[backup]\nto = \"backups\"\nevery = \"1s\"\nkeep = 2\nrecipients = [\"{public}\"]\n"
    );
    std::fs::write(home.path("stack.toml"), toml).unwrap();
    // What a command has left that was killed.
    std::fs::create_dir(home.data()).unwrap();
    for name in [
        ".copy-0123456789abcdef.redb",
        ".copy-0123456789abcdef.redb.part",
    ] {
        std::fs::write(home.data().join(name), b"x").unwrap();
    }
    home.start().await;
    assert!(!names(&home.data()).iter().any(|name| name.contains("copy")));
    home.until("stack_backups_total ", 3.0).await;
    assert!(home.measured("stack_backup_size_bytes ").await > 100_000.0);
    assert!(home.measured("stack_backup_duration_seconds ").await > 0.0);
    let last = home
        .measured("stack_backup_last_success_timestamp_seconds ")
        .await;
    assert!(last > 1_700_000_000.0);
    home.stop().await;
    let now = home.json(&["backup", "now"]).await;
    let list = home.json(&["backup", "list"]).await;
    assert_eq!((list.len(), &list[0]["name"]), (2, &now[0]["name"]));
    let there = names(&backups);
    assert_eq!(there.len(), 4, "{there:?}");
    assert_eq!(there[0], "notes.txt");
    assert_eq!(there[3], "stack.redb");
    for backup in &list {
        let name = backup["name"].as_str().unwrap();
        assert!(name.ends_with(".redb.age"));
        let path = backups.join(name);
        assert_private(&path);
        let path = path.to_str().unwrap();
        home.told(&["verify", path, "--identity", "key.txt"]).await;
    }
    let table = home.told(&["backup", "list"]).await;
    assert!(table.starts_with("NAME "), "{table}");
    // A restart makes none before it is time.
    std::fs::write(
        home.path("stack.toml"),
        "[backup]\nto = \"backups\"\nevery = \"1d\"\n",
    )
    .unwrap();
    home.start().await;
    home.until("stack_backup_last_success_timestamp_seconds ", last)
        .await;
    assert_eq!(home.measured("stack_backups_total ").await, 0.0);
}

#[tokio::test]
async fn backups_that_fail_are_seen_and_hold_nothing_up() {
    let mut home = Home::configured("[backup]\nto = \"backups\"\nevery = \"1s\"\n").await;
    home.until("stack_backup_failures_total ", 2.0).await;
    assert_eq!(home.measured("stack_backups_total ").await, 0.0);
    let ready = reqwest::get(format!("{}/readyz", home.origin()))
        .await
        .unwrap();
    assert_eq!(ready.status(), 200);
    let refused = home.refused(&["backup", "now"], 1).await;
    assert!(
        refused.contains("cannot read the folder backups"),
        "{refused}"
    );
    // With the folder there it goes on by itself.
    std::fs::create_dir(home.path("backups")).unwrap();
    home.until("stack_backups_total ", 1.0).await;
    let mut child = home.gateway.take().unwrap().0;
    crate::process::signal(&child, "TERM");
    let mut log = String::new();
    let mut stderr = child.stderr.take().unwrap();
    timeout(PATIENCE, stderr.read_to_string(&mut log))
        .await
        .unwrap()
        .unwrap();
    assert!(
        log.contains("there is no new backup: cannot read the folder backups"),
        "{log}"
    );
    assert!(child.wait().await.unwrap().success());
}

#[tokio::test]
async fn what_the_configuration_of_backups_lacks_is_told_together() {
    let folder = tempfile::tempdir().unwrap();
    let toml = "\
[backup]
to = \"s3://box/a\"
every = \"often\"
keep = 0
recipients = [\"ann\"]
s3_endpoint = \"http://s3.example.com\"
";
    std::fs::write(folder.path().join("stack.toml"), toml).unwrap();
    let mut check = program(&["config", "check"]);
    let Output { stderr, status, .. } = output(check.current_dir(folder.path())).await;
    let told = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(2));
    for fault in [
        "backup.every: \"often\" is no such time as 30m, 6h or 1d",
        "backup.keep: 0 is not between",
        "backup.recipients: \"ann\" is no public key of age",
        "backup.s3_endpoint: would send the whole file in the clear",
        "backup.s3_access_key_id: a bucket in backup.to needs it",
        "backup.s3_secret_access_key: a bucket in backup.to needs it",
    ] {
        assert!(told.contains(fault), "{fault}: {told}");
    }
}

/// What was put into a bucket, by path.
type Objects = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// A server that does what one of S3 does for objects that go in one request.
async fn bucket(tasks: &mut JoinSet<()>) -> (String, Objects) {
    use axum::body::{Body, Bytes};
    use axum::extract::DefaultBodyLimit;
    use axum::http::{Method, Response, StatusCode, Uri, header};
    use hyper::server::conn::http1;
    use hyper_util::rt::TokioIo;
    use hyper_util::service::TowerToHyperService;

    let objects = Objects::default();
    let all = objects.clone();
    let answer = async move |method: Method, uri: Uri, body: Bytes| {
        let mut all = all.lock();
        let path = uri.path().to_owned();
        let answer = Response::builder().header(header::ETAG, "\"x\"");
        let answer = match (method, all.get(&path)) {
            (Method::PUT, _) => {
                all.insert(path, body.to_vec());
                answer
            }
            (Method::HEAD, Some(object)) => answer.header(header::CONTENT_LENGTH, object.len()),
            _ => answer.status(StatusCode::NOT_FOUND),
        };
        answer.body(Body::empty()).unwrap()
    };
    let server = axum::Router::new()
        .fallback(answer)
        .layer(DefaultBodyLimit::disable());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let service = TowerToHyperService::new(server.clone());
            let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            connections.spawn(served);
        }
    });
    (origin, objects)
}

#[tokio::test]
async fn a_copy_to_a_bucket_is_enciphered_as_backups_are_and_replaces_nothing() {
    let mut home = Home {
        folder: tempfile::tempdir().unwrap(),
        gateway: None,
    };
    let [public, other] = home.keys();
    let mut tasks = JoinSet::new();
    let (endpoint, objects) = bucket(&mut tasks).await;
    std::fs::write(home.path("secret"), "secret").unwrap();
    let toml = format!(
        "[backup]\nrecipients = [\"{public}\"]\ns3_endpoint = \"{endpoint}\"\ns3_access_key_id = \"id\"\ns3_secret_access_key_file = \"secret\"\n"
    );
    std::fs::write(home.path("stack.toml"), toml).unwrap();
    home.start().await;
    home.register("ann").await;

    let copied = home.json(&["snapshot", "s3://box/copies/one.age"]).await;
    assert_eq!(copied[0]["enciphered"], json!(true));
    let one = objects.lock()["/box/copies/one.age"].clone();
    std::fs::write(home.path("one.age"), &one).unwrap();
    home.told(&["verify", "one.age", "--identity", "key.txt"])
        .await;
    // Whoever names another key means that.
    let named = ["snapshot", "s3://box/two.age", "--recipient", &other];
    home.told(&named).await;
    let two = objects.lock()["/box/two.age"].clone();
    std::fs::write(home.path("two.age"), two).unwrap();
    home.told(&["verify", "two.age", "--identity", "other.txt"])
        .await;

    let again = home
        .refused(&["snapshot", "s3://box/copies/one.age"], 1)
        .await;
    assert!(again.contains("is there already"), "{again}");
    assert_eq!(objects.lock()["/box/copies/one.age"], one);
    assert!(!names(&home.data()).iter().any(|name| name.contains("copy")));
}

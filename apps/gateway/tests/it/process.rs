//! The program itself: its first line, its exit codes, its signals.

use std::process::{Output, Stdio};
use std::time::Duration;

use stack_testkit::PATIENCE;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

pub(crate) fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stack-gateway"));
    // Nothing of the environment the tests run in may change what they see.
    command
        .env_clear()
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

pub(crate) async fn output(command: &mut Command) -> Output {
    timeout(PATIENCE, command.output()).await.unwrap().unwrap()
}

pub(crate) async fn started(folder: &tempfile::TempDir) -> (Child, String) {
    let mut command = program(&["--listen", "127.0.0.1:0"]);
    command
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .current_dir(folder.path());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let (_, rest) = line.split_once("listening on ").unwrap();
    let url = rest.split_whitespace().next().unwrap().to_owned();
    assert!(url.starts_with("http://127.0.0.1:"), "{line}");
    (child, url)
}

pub(crate) fn signal(child: &Child, name: &str) {
    let pid = child.id().unwrap().to_string();
    let sent = std::process::Command::new("kill")
        .args([format!("-{name}"), pid])
        .status()
        .unwrap();
    assert!(sent.success());
}

#[tokio::test]
async fn it_says_where_it_listens_and_ends_by_a_signal() {
    for name in ["TERM", "INT"] {
        let folder = tempfile::tempdir().unwrap();
        let (mut child, url) = started(&folder).await;
        let pong = reqwest::get(format!("{url}/ping"))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        assert_eq!(pong, "pong");
        signal(&child, name);
        let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
        let mut log = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .await
            .unwrap();
        assert!(status.success(), "{status}: {log}");
        assert!(log.contains("the gateway is down"), "{log}");
    }
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, url) = started(&folder).await;
    // A request in the making holds the first signal up.
    let addr = url.strip_prefix("http://").unwrap();
    let mut held = tokio::net::TcpStream::connect(addr).await.unwrap();
    let head = b"POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n";
    tokio::io::AsyncWriteExt::write_all(&mut held, head)
        .await
        .unwrap();
    // The gateway asks for the body when the handler is at work.
    let mut continued = [0; 12];
    held.read_exact(&mut continued).await.unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    signal(&child, "TERM");
    while !timeout(PATIENCE, log.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
        .contains("shutting down")
    {}
    signal(&child, "TERM");
    let status = timeout(Duration::from_secs(5), child.wait())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(status.code(), Some(1));
}

/// Ten mistakes of ten kinds, and what is said of each: where it stands, which setting it is, and what is wrong.
const MISTAKES: &str = "\
listen = 8080
colour = \"red\"
log = = \"info\"
[limits]
page_events = 0
connections_per_usr = 3
[tls]
cert = \"cert.pem\"
";
const MISTAKES_OF_THE_ENVIRONMENT: [(&str, &str); 3] = [
    ("AUTH_JWT_SECRET", "hunter2"),
    ("STACK_AUTH_REGISTRATION", "everybody"),
    ("STACK_DATADIR", "/srv/stack"),
];
const TOLD: &str = "the configuration has 10 faults
  file stack.toml:1: listen: must be a string or an array of strings
  file stack.toml:2: colour: unknown setting
  file stack.toml:3: extra `=`, expected nothing
  file stack.toml:5: limits.page_events: 0 is not between 1 and 10000
  file stack.toml:6: limits.connections_per_usr: unknown setting; did you mean limits.connections_per_user?
  file stack.toml:8: tls.cert: tls.key is not set
  environment STACK_DATADIR: unknown variable; did you mean STACK_DATA_DIR?
  environment STACK_AUTH_REGISTRATION: auth.registration: \"everybody\" is none of open, invite and closed
  environment AUTH_JWT_SECRET: auth.jwt_secret: a secret has at least 32 bytes, this one has 7
  flag --log-format: log_format: \"xml\" is neither text nor json
";

#[tokio::test]
async fn ten_mistakes_are_ten_clear_messages() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("stack.toml"), MISTAKES).unwrap();
    for arguments in [
        &["serve"][..],
        &["config", "check"],
        &["config", "print"],
        &["edge"],
        &["users", "list"],
        &[],
    ] {
        let mut command = program(arguments);
        command
            .args(["--log-format", "xml"])
            .current_dir(folder.path())
            .envs(MISTAKES_OF_THE_ENVIRONMENT);
        let output = output(&mut command).await;
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(told, TOLD, "{arguments:?}");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(
            !folder.path().join("data").exists(),
            "nothing was left behind"
        );
    }
}

#[tokio::test]
async fn a_signal_lets_it_read_its_configuration_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stack.toml");
    std::fs::write(&file, "log = \"info\"\n").unwrap();
    let (mut child, url) = started(&folder).await;
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut seen = Vec::new();
    let mut until = async |part: &str| {
        loop {
            let line = timeout(PATIENCE, log.next_line()).await.unwrap().unwrap();
            let line = line.unwrap();
            let is_it = line.contains(part);
            seen.push(line);
            if is_it {
                return;
            }
        }
    };
    let secret = "0123456789abcdef0123456789abcdef";
    let changed = format!(
        "log = \"info,stack_gateway=debug\"\nsite_name = \"Ours\"\n[auth]\njwt_secret = {secret:?}\n"
    );
    std::fs::write(&file, changed).unwrap();
    signal(&child, "HUP");
    until("log was changed and is in force").await;
    until("site_name was changed and needs a restart").await;
    until("auth.jwt_secret was changed and needs a restart").await;
    reqwest::get(format!("{url}/ping")).await.unwrap();
    until("DEBUG").await;

    std::fs::write(
        &file,
        "colour = \"red\"\n[auth]\njwt_secret = \"hunter2\"\n",
    )
    .unwrap();
    signal(&child, "HUP");
    until("stack.toml:1: colour: unknown setting").await;
    until("stack.toml:3: auth.jwt_secret: a secret has at least 32 bytes").await;
    until("everything stays as it is").await;
    reqwest::get(format!("{url}/ping")).await.unwrap();
    until("answered 200").await;

    std::fs::write(&file, "").unwrap();
    signal(&child, "HUP");
    until("log was changed and is in force").await;
    signal(&child, "TERM");
    until("the gateway is down").await;
    let seen = seen.join("\n");
    assert!(
        !seen.contains(secret) && !seen.contains("hunter2"),
        "{seen}"
    );
}

#[tokio::test]
async fn a_command_lets_it_read_its_configuration_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("stack.toml");
    let data = folder.path().join("data");
    // The command has settings of its own, so that what the gateway finds is what is told.
    let empty = folder.path().join("empty.toml");
    std::fs::write(&empty, "").unwrap();
    let (mut child, _url) = started(&folder).await;
    let reload = async |more: &[&str]| {
        let mut command = program(&["reload", "--config", empty.to_str().unwrap()]);
        command.args(["--data-dir", data.to_str().unwrap()]);
        let done = output(command.args(more)).await;
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (done.status.code(), text(done.stdout), text(done.stderr))
    };
    let (code, told, _) = reload(&[]).await;
    assert_eq!((code, &*told), (Some(0), "nothing has changed\n"));
    // There was no file at the start.
    std::fs::write(
        &file,
        "site_name = \"Ours\"\n[auth]\nregistration = \"closed\"\n",
    )
    .unwrap();
    let (code, told, _) = reload(&[]).await;
    let expected = "site_name needs a restart\nauth.registration is in force\n";
    assert_eq!((code, &*told), (Some(0), expected));
    let (code, told, _) = reload(&["--json"]).await;
    let expected = "{\"applied\":false,\"key\":\"site_name\"}\n";
    assert_eq!((code, &*told), (Some(0), expected));

    std::fs::write(&file, "[auth]\nregistration = \"nobody\"\n").unwrap();
    let (code, told, failed) = reload(&[]).await;
    assert_eq!(code, Some(2));
    let expected =
        "file stack.toml:2: auth.registration: \"nobody\" is none of open, invite and closed\n";
    assert_eq!(told, expected);
    assert!(failed.contains("has faults (1)"), "{failed}");
    // What is wrong with the settings is the gateway's to say, also where the command reads the same.
    std::fs::write(&empty, "[auth]\nregistration = \"nobody\"\n").unwrap();
    let (code, told, _) = reload(&[]).await;
    assert_eq!((code, &*told), (Some(2), expected));
    // But not where it is.
    std::fs::write(&empty, "data_dir = \n").unwrap();
    let (code, _, failed) = reload(&[]).await;
    assert_eq!(code, Some(2), "{failed}");
    std::fs::write(&empty, "").unwrap();

    let mut audit = program(&["audit", "--action", "configuration_reloaded", "--json"]);
    let audit = audit.current_dir(data.parent().unwrap().join("data"));
    let audit = output(audit.args(["--data-dir", data.to_str().unwrap()])).await;
    let audit = String::from_utf8(audit.stdout).unwrap();
    assert_eq!(audit.lines().count(), 1, "{audit}");
    assert!(
        audit.contains("\"target\":\"auth.registration\""),
        "{audit}"
    );

    signal(&child, "TERM");
    timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    let (code, _, failed) = reload(&[]).await;
    assert_eq!(code, Some(1));
    assert!(failed.contains("no gateway can be reached"), "{failed}");
}

#[tokio::test]
async fn a_file_that_was_asked_for_and_is_not_there_is_a_fault() {
    let output = output(&mut program(&["--config", "no/such/file.toml"])).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no/such/file.toml"));
}

#[tokio::test]
async fn the_configuration_can_be_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let default = output(program(&["config", "default"]).current_dir(folder.path())).await;
    assert!(default.status.success());
    std::fs::write(folder.path().join("stack.toml"), &default.stdout).unwrap();
    let check = output(program(&["config", "check"]).current_dir(folder.path())).await;
    assert!(check.status.success(), "{check:?}");
    let print =
        output(program(&["config", "print", "--listen", "127.0.0.1:1"]).current_dir(folder.path()))
            .await;
    let shown = String::from_utf8_lossy(&print.stdout);
    assert!(
        shown.contains("listen = \"127.0.0.1:1\"  # flag --listen"),
        "{shown}"
    );
    let version = output(&mut program(&["--version"])).await;
    assert!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let output = output(program(&["--listen", &listen]).current_dir(folder.path())).await;
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains(&listen) && told.contains("in use"), "{told}");
    assert!(
        !folder.path().join("data").exists(),
        "nothing was left behind"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_for_its_owner_alone_in_a_folder_that_is_not() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    std::fs::create_dir(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (_child, _url) = started(&folder).await;
    for entry in std::fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
    }
    assert!(path.join("stack.redb").exists());
}

/// The line that says where the first administrator is made.
async fn setup_url(folder: &tempfile::TempDir) -> Output {
    let mut command = program(&["setup-url", "--listen", "127.0.0.1:0"]);
    command.arg("--data-dir").arg(folder.path().join("data"));
    output(command.current_dir(folder.path())).await
}

#[tokio::test]
async fn the_setup_link_is_told_at_the_start_and_again_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let before = setup_url(&folder).await;
    assert_eq!(before.status.code(), Some(1), "{before:?}");
    let mut command = program(&["--listen", "127.0.0.1:0"]);
    command
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .current_dir(folder.path());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut line = async || {
        timeout(PATIENCE, lines.next_line())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
    };
    let listening = line().await;
    let told = line().await;
    let url = told.strip_prefix("Set up: ").unwrap();
    let (page, token) = url.split_once('#').unwrap();
    assert!(
        page.starts_with("http://localhost:") && page.ends_with("/setup"),
        "{told}"
    );
    assert_eq!(token.len(), 43);

    let again = setup_url(&folder).await;
    assert!(again.status.success(), "{again:?}");
    // The gateway itself knows where it listens.
    assert_eq!(String::from_utf8_lossy(&again.stdout).trim_end(), url);

    let (_, rest) = listening.split_once("listening on ").unwrap();
    let origin = rest.split_whitespace().next().unwrap();
    let claim = serde_json::json!({ "token": token, "username": "root", "password": stack_testkit::PASSWORD });
    let claimed = reqwest::Client::new()
        .post(format!("{origin}/api/v1/setup/password"))
        .json(&claim)
        .send()
        .await
        .unwrap();
    assert_eq!(claimed.status(), 201);
    for running in [true, false] {
        let refused = setup_url(&folder).await;
        assert_eq!(refused.status.code(), Some(1));
        let told = String::from_utf8_lossy(&refused.stderr);
        assert!(told.contains("set up already"), "{running}: {told}");
        if running {
            signal(&child, "TERM");
            timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
        }
    }

    // Under another host the passkeys of the time of the setup are worth nothing.
    let mut command = program(&[
        "--listen",
        "127.0.0.1:0",
        "--public-url",
        "https://chat.example",
    ]);
    command
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .current_dir(folder.path());
    let mut moved = command
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(moved.stderr.take().unwrap()).lines();
    let warned = async {
        loop {
            let line = log.next_line().await.unwrap().unwrap();
            if line.contains("passkeys made for localhost do not work any more") {
                return;
            }
        }
    };
    timeout(PATIENCE, warned).await.unwrap();
}

#[tokio::test]
async fn signing_keys_change_beside_a_running_gateway_and_are_on_record() {
    let folder = tempfile::tempdir().unwrap();
    // The command line does not know how the gateway signs.
    let run = async |arguments: &[&str]| {
        let mut command = program(arguments);
        command
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .current_dir(folder.path());
        command
    };
    let mut command = run(&["--listen", "127.0.0.1:0"]).await;
    let mut child = command
        .env("STACK_AUTH_SIGNING", "eddsa")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.unwrap();
    let line = line.unwrap().unwrap();
    let (_, rest) = line.split_once("listening on ").unwrap();
    let origin = rest.split_whitespace().next().unwrap().to_owned();

    let client = reqwest::Client::new();
    let person = serde_json::json!({ "username": "ann", "password": stack_testkit::PASSWORD });
    let registered = client
        .post(format!("{origin}/api/v1/auth/register"))
        .json(&person);
    let answer: serde_json::Value = registered.send().await.unwrap().json().await.unwrap();
    let token = answer["access_token"].as_str().unwrap().to_owned();

    let file = folder.path().join("data").join("signing-keys.json");
    let before = std::fs::read(&file).unwrap();
    let listed = output(&mut run(&["keys", "list"]).await).await;
    assert!(listed.status.success(), "{listed:?}");
    assert_eq!(std::fs::read(&file).unwrap(), before);

    let rotated = output(&mut run(&["keys", "rotate"]).await).await;
    assert!(rotated.status.success(), "{rotated:?}");
    // The gateway looks every two seconds, and answers with what it knows meanwhile.
    let both = async {
        loop {
            let keys = client.get(format!("{origin}/.well-known/jwks.json"));
            let keys: serde_json::Value = keys.send().await.unwrap().json().await.unwrap();
            if keys["keys"].as_array().unwrap().len() == 2 {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, both).await.unwrap();
    let me = client
        .get(format!("{origin}/api/v1/me"))
        .bearer_auth(&token);
    assert_eq!(me.send().await.unwrap().status(), 200);
    let listed = output(&mut run(&["keys", "list"]).await).await;
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.lines().count(), 3, "{listed}");
    let signs = listed.lines().last().unwrap();
    assert!(
        signs.contains("EdDsa") && signs.ends_with("signs"),
        "{listed}"
    );

    let running = output(&mut run(&["audit"]).await).await;
    assert!(running.status.success(), "{running:?}");
    signal(&child, "TERM");
    timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    let log = output(&mut run(&["audit", "--jsonl"]).await).await;
    let log: Vec<serde_json::Value> = String::from_utf8(log.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let actions: Vec<_> = log
        .iter()
        .map(|entry| entry["action"].as_str().unwrap())
        .collect();
    assert!(actions.contains(&"register"), "{actions:?}");
    // The first one when the gateway went from HS256 to EdDSA.
    let rotated = log
        .iter()
        .filter(|entry| entry["action"] == "signing_key_rotated")
        .map(|entry| entry["target"].as_str().unwrap());
    let rotated: Vec<_> = rotated.collect();
    assert_eq!(rotated.len(), 2, "{actions:?}");
    assert!(signs.starts_with(rotated[0]));
    let one = output(&mut run(&["audit", "--action", "register", "--json"]).await).await;
    assert_eq!(String::from_utf8(one.stdout).unwrap().lines().count(), 1);
}

/// A key that is a pipe nobody writes to: whoever reads it waits.
#[tokio::test]
async fn a_file_that_cannot_be_read_to_its_end_does_not_hold_the_end_up() {
    let folder = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
    std::fs::write(&cert, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    for asked in [true, false] {
        let mut child = program(&["--listen", "127.0.0.1:0", "--data-dir", "data"])
            .env("STACK_TLS_CERT", &cert)
            .env("STACK_TLS_KEY", &key)
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        timeout(PATIENCE, out.next_line()).await.unwrap().unwrap();
        let kept = std::fs::read(&key).unwrap();
        std::fs::remove_file(&key).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&key).status();
        assert!(made.unwrap().success());
        if asked {
            signal(&child, "HUP");
        }
        // Somebody reads when a writer finds the other end open.
        let pipe = key.clone();
        let opens = move || std::fs::File::options().write(true).open(pipe);
        let _held = timeout(PATIENCE, tokio::task::spawn_blocking(opens))
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        signal(&child, "TERM");
        let status = timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}");
        std::fs::remove_file(&key).unwrap();
        std::fs::write(&key, kept).unwrap();
    }
}

#[tokio::test]
async fn a_certificate_that_is_no_good_hinders_those_who_serve_alone() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, code) in [
        (&["config", "print"][..], 0),
        // There is no database yet.
        (&["keys", "list"], 1),
        (&["config", "check"], 2),
        (&["serve"], 2),
    ] {
        let mut command = program(arguments);
        command
            .args(["--data-dir", "data"])
            .env("STACK_TLS_CERT", "no/such.pem")
            .env("STACK_TLS_KEY", "no/such.pem")
            .current_dir(folder.path());
        let output = output(&mut command).await;
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
    }
}

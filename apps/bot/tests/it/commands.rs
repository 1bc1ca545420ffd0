//! What is answered, and to whom.

use serde_json::json;

use crate::support::{ROOM, WIDE, World, script};

#[tokio::test]
async fn help_tells_what_there_is() {
    let world = World::new().await;
    let greet = script(
        "greet",
        "echo hello $1",
        "max_args = 1\nusage = '[name]'\nhelp = 'says hello'",
    );
    world.configure("", &greet);
    let bot = world.start().await;
    let help = world.ask("!help").await;
    for line in [
        "!help: ",
        "!remind <duration> <text>",
        "!greet [name]: says hello",
    ] {
        assert!(help.contains(line), "{help}");
    }
    assert_eq!(world.ask("!greet ann").await, "hello ann");
    // What is none of its commands is not answered.
    let before = world.said().await.len();
    for body in ["hello", "!unknown", "! help", "say !help"] {
        world.say(body).await;
    }
    world.ask("!help").await;
    assert_eq!(world.said().await.len(), before + 1);
    let (code, log) = bot.terminate().await;
    assert_eq!(code, Some(0), "{log}");
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn bots_are_not_answered_and_neither_is_itself() {
    let world = World::new().await;
    world.configure("", &script("parrot", "echo !help", ""));
    let _bot = world.start().await;
    let other = world.admin.bot("Other", &["send"]).await;
    world.admin.bring(ROOM, &other.id).await;
    let path = format!("/api/v1/rooms/{ROOM}/messages");
    let call = world.gateway.program().post(&path).bearer(&other.token);
    let said = call.json(&json!({ "body": "!help" })).send().await;
    let by_bot = said.expect(201)["seq"].as_u64().unwrap();
    let parrot = world.say("!parrot").await;
    assert_eq!(world.answer(parrot).await, "!help");
    // By then it has read what it has said itself.
    world.ask("!help").await;
    world.ask("!help").await;
    let said = world.said().await;
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said.iter().all(|(to, _)| *to != by_bot), "{said:?}");
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn programs_get_what_is_allowed_and_no_shell() {
    let world = World::new().await;
    let tables = [
        WIDE.to_owned(),
        "[commands.echo]\nprogram = '/bin/echo'\nargs = ['-n', 'said']\nmax_args = 3\n".to_owned(),
        script(
            "env",
            "env | sort | cut -d= -f1 | tr '\\n' ' '; pwd",
            "folder = '/usr'",
        ),
        script(
            "switch",
            "echo turned $1",
            "min_args = 1\nmax_args = 1\nargument = 'on|off'\nusage = 'on|off'",
        ),
    ];
    world.configure("", &tables.concat());
    let _bot = world.start().await;
    assert_eq!(world.ask("!echo a  b:c\td").await, "said a b:c d");
    for bad in [
        "!echo -e",
        "!echo $(id)",
        "!echo a;id",
        "!echo `id`",
        "!echo a|b",
        "!echo 'a'",
    ] {
        let answer = world.ask(bad).await;
        assert!(
            answer.contains("Argument 1 is not allowed"),
            "{bad}: {answer}"
        );
    }
    assert!(
        world
            .ask("!echo a b c d")
            .await
            .contains("It takes 0 to 3 arguments")
    );
    assert_eq!(world.ask("!switch on").await, "turned on");
    let answer = world.ask("!switch sideways").await;
    assert_eq!(answer, "Argument 1 is not allowed. Usage: !switch on|off");
    let env = world.ask("!env").await;
    assert!(!env.contains("SECRET"), "{env}");
    assert!(env.ends_with("/usr"), "{env}");
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn programs_end_in_time_and_say_what_went_wrong() {
    let world = World::new().await;
    let noise = r"printf '\377\033[31mred\033[0m \a\n'";
    let tables = [
        WIDE.to_owned(),
        script("slow", "echo begun; sleep 1000", "timeout = '1s'"),
        script(
            "loud",
            "while :; do echo aaaaaaaaaaaaaaa; done",
            "max_output = 100",
        ),
        script("fails", "echo why >&2; exit 7", ""),
        script("silent", "true", ""),
        script("noise", &noise.replace('\'', "\""), ""),
    ];
    world.configure("", &tables.concat());
    let _bot = world.start().await;
    assert_eq!(
        world.ask("!slow").await,
        "begun\n(slow was stopped after 1s)"
    );
    let loud = world.ask("!loud").await;
    assert!(loud.ends_with("(cut off)") && loud.len() < 130, "{loud}");
    assert_eq!(
        world.ask("!fails").await,
        "why\n(fails failed: exit status: 7)"
    );
    assert_eq!(world.ask("!silent").await, "(no output)");
    assert_eq!(world.ask("!noise").await, "\u{fffd}red");
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn so_many_programs_run_at_the_same_time() {
    let world = World::new().await;
    let folder = world.folder.path().display().to_string();
    // Each notes itself, looks how many there are, and goes.
    let body = format!(
        "cd {folder}; touch run.$$; set -- run.*; echo $# >> counts; sleep 0.2; rm run.$$; echo done"
    );
    let limits = "[limits]\nprograms = 2\nuser_burst = 100\nroom_burst = 100\n";
    let one = script("one", &body, "at_once = 1");
    let many = script("many", &body, "at_once = 50");
    world.configure("", &[limits, &one, &many].concat());
    let _bot = world.start().await;
    let mut asked = Vec::new();
    for _ in 0..6 {
        asked.push(world.say("!many").await);
        asked.push(world.say("!one").await);
    }
    for seq in asked {
        assert_eq!(world.answer(seq).await, "done");
    }
    let counts = std::fs::read_to_string(world.path("counts")).unwrap();
    let counts: Vec<u32> = counts
        .lines()
        .map(|line| line.trim().parse().unwrap())
        .collect();
    assert_eq!(counts.len(), 12);
    assert!(
        counts.iter().all(|count| (1..=2).contains(count)),
        "{counts:?}"
    );
    assert!(counts.contains(&2), "{counts:?}");
    world.gateway.shutdown().await;
}

#[tokio::test]
async fn an_answer_that_does_not_fit_says_so() {
    let world = World::new().await;
    let settings = json!({ "settings": { "max_message_bytes": 64 } });
    let change = world.admin.call("PATCH", &format!("/api/v1/rooms/{ROOM}"));
    change.json(&settings).send().await.expect(200);
    world.configure("", &script("long", "seq 1 100", ""));
    let _bot = world.start().await;
    assert_eq!(
        world.ask("!long").await,
        "The answer is too long for this room."
    );
    world.gateway.shutdown().await;
}

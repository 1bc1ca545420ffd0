//! Sizes, at their limit and one beyond.

use stack_rooms::{Say, SendMessage};
use stack_types::{ErrorCode, Problem, RoomId, RoomSettingsPatch, Seq};

use crate::support::{World, fault, json, keyed, text, user};

const BODY: usize = 16 * 1024;
const DATA: usize = 32 * 1024;
const KEY: usize = 64;

type Fault = Option<(ErrorCode, Option<String>)>;

fn too_large(field: &str) -> Fault {
    Some((ErrorCode::PayloadTooLarge, Some(field.to_owned())))
}

fn invalid(field: &str) -> Fault {
    Some((ErrorCode::InvalidField, Some(field.to_owned())))
}

async fn scene() -> (World, RoomId) {
    let world = World::new().await;
    let room = world.room("general", RoomSettingsPatch::default()).await;
    (world, room)
}

fn with_data(data: &str) -> SendMessage {
    SendMessage {
        data: Some(json(data)),
        ..text("")
    }
}

fn string_of(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

fn nested(depth: usize) -> String {
    let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
    format!("{open}{{\"[[[\":\"]]]\"}}{close}")
}

#[tokio::test]
async fn a_body_has_a_limit_in_bytes() {
    let (world, room) = scene().await;
    let send = async |message| fault(world.send("owner", &room, message).await);
    assert_eq!(send(text(&"x".repeat(BODY))).await, None);
    assert_eq!(send(text(&"x".repeat(BODY + 1))).await, too_large("body"));
    assert_eq!(send(text(&"é".repeat(BODY / 2))).await, None);
    assert_eq!(
        send(text(&"é".repeat(BODY / 2 + 1))).await,
        too_large("body")
    );
    assert_eq!(send(text("")).await, invalid("body"));
    assert_eq!(send(text(" ")).await, None);
    assert_eq!(send(with_data("1")).await, None);

    let said = Seq(2);
    let edit = async |body: String| -> Result<_, Problem> {
        let edit = Say::Edit { target: said, body };
        world.rooms.say_and_wait(user("owner"), &room, edit).await
    };
    assert_eq!(fault(edit("x".repeat(BODY)).await), None);
    assert_eq!(fault(edit("x".repeat(BODY + 1)).await), too_large("body"));
    assert_eq!(fault(edit(String::new()).await), invalid("body"));
}

#[tokio::test]
async fn a_room_may_have_shorter_messages() {
    let (world, room) = scene().await;
    let short = RoomSettingsPatch {
        max_message_bytes: Some(5),
        ..RoomSettingsPatch::default()
    };
    world.change(&room, short).await.unwrap();
    let said = world.say("owner", &room, "12345").await.unwrap().seq;
    assert_eq!(
        fault(world.say("owner", &room, "123456").await),
        too_large("body")
    );
    // "edited" has six.
    assert_eq!(
        fault(world.edit("owner", &room, said).await),
        too_large("body")
    );
}

#[tokio::test]
async fn data_has_a_limit_in_bytes_and_in_depth() {
    let (world, room) = scene().await;
    let send = async |data: &str| fault(world.send("owner", &room, with_data(data)).await);
    assert_eq!(send(&string_of(DATA)).await, None);
    assert_eq!(send(&string_of(DATA + 1)).await, too_large("data"));
    assert_eq!(send(&nested(64)).await, None);
    assert_eq!(send(&nested(65)).await, invalid("data"));
    // What stands in strings is not nested.
    let brackets = format!("[\"{}\\\"{}\"]", "[".repeat(100), "{".repeat(100));
    assert_eq!(send(&brackets).await, None);
    let log = world.log(&room).await;
    assert_eq!(
        log.last().unwrap()["payload"]["data"],
        serde_json::from_str::<serde_json::Value>(&brackets).unwrap()
    );
}

#[tokio::test]
async fn a_key_has_1_to_64_bytes() {
    let (world, room) = scene().await;
    let send = async |key: &str| fault(world.send("owner", &room, keyed("x", key)).await);
    assert_eq!(send("").await, invalid("key"));
    assert_eq!(send("k").await, None);
    assert_eq!(send(&"k".repeat(KEY)).await, None);
    assert_eq!(send(&"k".repeat(KEY + 1)).await, too_large("key"));
    assert_eq!(send(&"é".repeat(KEY / 2)).await, None);
    assert_eq!(send(&"é".repeat(KEY / 2 + 1)).await, too_large("key"));
}

#[tokio::test]
async fn the_reason_of_a_redaction_has_500_bytes() {
    let (world, room) = scene().await;
    let said = world.say("owner", &room, "x").await.unwrap().seq;
    let redact = async |bytes: usize| -> Result<_, Problem> {
        let reason = Some("r".repeat(bytes));
        let target = said;
        let redact = Say::Redact { target, reason };
        world.rooms.say_and_wait(user("owner"), &room, redact).await
    };
    assert_eq!(fault(redact(501).await), invalid("reason"));
    assert_eq!(world.log(&room).await[1]["payload"]["body"], "x");
    assert_eq!(fault(redact(500).await), None);
}

#[tokio::test]
async fn an_emoji_has_1_to_64_bytes_without_blanks() {
    let (world, room) = scene().await;
    let said = world.say("owner", &room, "x").await.unwrap().seq;
    let react = async |emoji: &str| -> Result<_, Problem> {
        let react = Say::React {
            target: said,
            emoji: emoji.to_owned(),
            remove: false,
        };
        world.rooms.say_and_wait(user("owner"), &room, react).await
    };
    let (longest, too_long) = ("👍".repeat(16), "👍".repeat(16) + "x");
    for bad in ["", " ", "a b", "a\u{a0}b", "a\n", "\u{0}", &too_long] {
        assert_eq!(fault(react(bad).await), invalid("emoji"), "{bad:?}");
    }
    for good in ["👍", "+1", "👩‍👩‍👧‍👦", &longest] {
        assert_eq!(fault(react(good).await), None, "{good:?}");
    }
    let log = world.log(&room).await;
    assert_eq!(log.last().unwrap()["payload"]["emoji"], longest);
}

//! Single rows and lines.

use super::*;

fn told(as_json: bool, write: impl FnOnce(&mut Told<'_, Vec<u8>>)) -> String {
    let mut out = Vec::new();
    let mut told = Told {
        as_json,
        out: &mut out,
    };
    write(&mut told);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_audit_log_tells_the_operator_from_somebody_unknown() {
    let entry = |actor: Value, ip: &str| json!({ "at": 0, "actor": actor, "ip": ip, "action": "login", "outcome": "refused", "target": null });
    let row = |entry: Value| audit_row(&entry).join("|");
    let time = "1970-01-01 00:00:00Z";
    assert_eq!(
        row(entry(Value::Null, "")),
        format!("{time}|login|refused|operator|-|-")
    );
    assert_eq!(
        row(entry(Value::Null, "192.0.2.1")),
        format!("{time}|login|refused|-|192.0.2.1|-")
    );
    assert_eq!(
        row(entry(json!("ann"), "")),
        format!("{time}|login|refused|ann|-|-")
    );
    // Whatever a gateway of another version leaves out or adds.
    assert_eq!(audit_row(&json!({ "new": 1 }))[1], "");
}

#[test]
fn figures_are_whole_where_they_count() {
    let figure = |value, unit: Option<&str>| Figure {
        name: "it".to_owned(),
        value,
        unit: unit.map(str::to_owned),
    };
    let figures = [
        figure(3.0, None),
        figure(0.25, Some("s")),
        figure(1048576.0, Some("bytes")),
        figure(f64::NAN, None),
    ];
    let json = told(true, |told| told.stats(&figures).unwrap());
    let expected = r#"{"name":"it","unit":null,"value":3}
{"name":"it","unit":"s","value":0.25}
{"name":"it","unit":"bytes","value":1048576}
{"name":"it","unit":null,"value":null}
"#;
    assert_eq!(json, expected);
    let table = told(false, |told| told.stats(&figures).unwrap());
    let expected = "\
FIGURE    VALUE
it            3
it      0.250 s
it      1.0 MiB
it          NaN
";
    assert_eq!(table, expected);
}

#[test]
fn a_bot_is_shown_as_one() {
    let user = Account {
        id: "u1".parse().unwrap(),
        username: "helper".to_owned(),
        display_name: "Helper".to_owned(),
        role: "member".to_owned(),
        created_at: Timestamp(0),
        disabled: true,
        bot: true,
    };
    let expected = [
        "u1",
        "helper",
        "bot",
        "disabled",
        "1970-01-01 00:00:00Z",
        "Helper",
    ];
    assert_eq!(user_row(&user), expected);
    assert_eq!(user_json(&user)["role"], "member");
}

#[test]
fn a_room_that_lost_its_beginning_has_fewer_events() {
    let mut room = RoomView {
        id: "r".parse().unwrap(),
        title: "R".to_owned(),
        settings: stack_types::RoomSettings::default(),
        first: stack_types::Seq(11),
        head: stack_types::Seq(20),
        members: 2,
        created_at: Timestamp(0),
    };
    assert_eq!(room_row(&room)[1..4], ["2", "10", "20"]);
    // All of it is too old.
    room.first = stack_types::Seq(21);
    assert_eq!(room_row(&room)[2], "0");
}

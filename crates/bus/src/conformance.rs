//! What every transport must do, as checks that any transport's tests call. [`bus_conformance!`] makes a test of
//! each of them.
//!
//! A check takes a fresh bus and panics where the contract of [`Bus`] is broken. It waits for messages, never for
//! time; [`PATIENCE`] only ends a check that would wait for ever.
//!
//! [`bus_conformance!`]: crate::bus_conformance

use std::sync::Arc;
use std::time::Duration;

use stack_types::{Frames, FramesBuilder};

use crate::{Bus, Message, Prefix, PublishError, SubscribeError, Subscription, Topic};

/// How long a check waits for a message that must come. Generous, since a loaded machine is not a broken bus.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Makes a `#[tokio::test]` of every check. The argument is an expression that opens a fresh bus, as
/// `Arc<dyn Bus>`, whose subscriptions queue at most `queue` messages; it may await.
#[macro_export]
macro_rules! bus_conformance {
    ($open:expr, queue = $queue:expr) => {
        $crate::bus_conformance!(@tests $open;
            exact_topic, prefix, a_longer_id_is_another_topic, everything, binary_payloads,
            large_payloads, frames_stay_in_order, nobody_listens, late_subscriber,
            subscriber_gone, many_topics, several_subscribers, closing, closing_wakes_a_reader);

        #[tokio::test]
        async fn slow_subscriber() {
            $crate::conformance::slow_subscriber($open, $queue).await;
        }
    };
    (@tests $open:expr; $($check:ident),*) => {
        $(
            #[tokio::test]
            async fn $check() {
                $crate::conformance::$check($open).await;
            }
        )*
    };
}

fn topic(text: &str) -> Topic {
    text.parse().expect("a topic of the suite is well formed")
}

fn say(bus: &Arc<dyn Bus>, on: &str, payload: &[u8]) {
    bus.publish(Message::one(topic(on), payload))
        .expect("publishing on an open bus works");
}

async fn listen(bus: &Arc<dyn Bus>, prefix: &str) -> Subscription {
    let prefix: Prefix = prefix
        .parse()
        .expect("a prefix of the suite is well formed");
    bus.subscribe(prefix)
        .await
        .expect("subscribing to an open bus works")
}

async fn next(subscription: &mut Subscription) -> Option<Message> {
    tokio::time::timeout(PATIENCE, subscription.recv())
        .await
        .expect("a message, or the end, comes in time")
}

/// Reads until there are `count` frames, and gives each with its topic.
async fn frames(subscription: &mut Subscription, count: usize) -> Vec<(String, Vec<u8>)> {
    let mut got = Vec::new();
    while got.len() < count {
        let message = next(subscription).await.expect("the bus is open");
        for payload in message.frames.iter() {
            got.push((message.topic.to_string(), payload.to_vec()));
        }
    }
    got
}

async fn expect(subscription: &mut Subscription, expected: &[(&str, &[u8])]) {
    let got = frames(subscription, expected.len()).await;
    let got: Vec<(&str, &[u8])> = got
        .iter()
        .map(|(topic, payload)| (topic.as_str(), payload.as_slice()))
        .collect();
    assert_eq!(got, expected);
}

/// A subscription to one topic gets that topic, in order, and no other.
pub async fn exact_topic(bus: Arc<dyn Bus>) {
    let mut subscription = listen(&bus, "room.a\0").await;
    say(&bus, "room.b", b"no");
    say(&bus, "presence.a", b"no");
    say(&bus, "room.a", b"1");
    say(&bus, "room.b", b"no");
    say(&bus, "room.a", b"2");
    expect(&mut subscription, &[("room.a", b"1"), ("room.a", b"2")]).await;
}

/// A subscription to a prefix gets every topic that starts with it.
pub async fn prefix(bus: Arc<dyn Bus>) {
    let mut subscription = listen(&bus, "room.").await;
    say(&bus, "presence.a", b"no");
    say(&bus, "room.a", b"1");
    expect(&mut subscription, &[("room.a", b"1")]).await;
    say(&bus, "roo", b"no");
    say(&bus, "room.b", b"2");
    expect(&mut subscription, &[("room.b", b"2")]).await;
}

/// A prefix that ends in the separator does not match a longer id; one that does not, does.
pub async fn a_longer_id_is_another_topic(bus: Arc<dyn Bus>) {
    let mut exact = listen(&bus, "room.a\0").await;
    let mut open = listen(&bus, "room.a").await;
    say(&bus, "room.ab", b"1");
    expect(&mut open, &[("room.ab", b"1")]).await;
    say(&bus, "room.a", b"2");
    expect(&mut open, &[("room.a", b"2")]).await;
    expect(&mut exact, &[("room.a", b"2")]).await;
}

/// The empty prefix gets every topic.
pub async fn everything(bus: Arc<dyn Bus>) {
    let mut subscription = listen(&bus, "").await;
    for name in ["a", "room.a", "control.x"] {
        say(&bus, name, name.as_bytes());
        expect(&mut subscription, &[(name, name.as_bytes())]).await;
    }
}

/// A payload is any bytes: zeros, the separator in it and at its start, nothing at all.
pub async fn binary_payloads(bus: Arc<dyn Bus>) {
    let mut subscription = listen(&bus, "room.a\0").await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let payloads: [&[u8]; 5] = [b"\0", b"\0\0room.b\0", b"", &every_byte, b"after"];
    for payload in payloads {
        say(&bus, "room.a", payload);
    }
    let expected: Vec<(&str, &[u8])> = payloads
        .iter()
        .map(|payload| ("room.a", *payload))
        .collect();
    expect(&mut subscription, &expected).await;
}

/// A payload of one mebibyte arrives whole.
pub async fn large_payloads(bus: Arc<dyn Bus>) {
    let mut subscription = listen(&bus, "room.a\0").await;
    let payload: Vec<u8> = (0..1024 * 1024u32).map(|n| (n % 251) as u8).collect();
    say(&bus, "room.a", &payload);
    say(&bus, "room.a", b"after");
    expect(
        &mut subscription,
        &[("room.a", &payload), ("room.a", b"after")],
    )
    .await;
}

/// The frames of a message arrive all, in order; so do those of the next.
pub async fn frames_stay_in_order(bus: Arc<dyn Bus>) {
    let mut subscription = listen(&bus, "room.").await;
    let batch = |range: std::ops::Range<u8>| -> Frames {
        let mut builder = FramesBuilder::default();
        for n in range {
            builder.push(&[n]);
        }
        builder.finish()
    };
    for range in [0..3, 3..4, 4..9] {
        bus.publish(Message::new(topic("room.a"), batch(range)))
            .expect("publishing on an open bus works");
    }
    let got = frames(&mut subscription, 9).await;
    let payloads: Vec<u8> = got.iter().map(|(_, payload)| payload[0]).collect();
    assert_eq!(payloads, (0..9).collect::<Vec<u8>>());
}

/// Publishing to nobody is not an error, and nothing is counted as lost.
pub async fn nobody_listens(bus: Arc<dyn Bus>) {
    say(&bus, "room.a", b"1");
    let mut other = listen(&bus, "room.b\0").await;
    say(&bus, "room.a", b"2");
    say(&bus, "room.b", b"3");
    expect(&mut other, &[("room.b", b"3")]).await;
    assert_eq!(bus.dropped(), 0);
}

/// A subscription sees what comes after it, not what came before.
pub async fn late_subscriber(bus: Arc<dyn Bus>) {
    let mut early = listen(&bus, "room.a\0").await;
    say(&bus, "room.a", b"1");
    expect(&mut early, &[("room.a", b"1")]).await;
    let mut late = listen(&bus, "room.a\0").await;
    say(&bus, "room.a", b"2");
    expect(&mut late, &[("room.a", b"2")]).await;
    expect(&mut early, &[("room.a", b"2")]).await;
}

/// A subscription that is gone disturbs nobody.
pub async fn subscriber_gone(bus: Arc<dyn Bus>) {
    let mut stays = listen(&bus, "room.").await;
    let goes = listen(&bus, "room.").await;
    say(&bus, "room.a", b"1");
    drop(goes);
    say(&bus, "room.a", b"2");
    expect(&mut stays, &[("room.a", b"1"), ("room.a", b"2")]).await;
    assert_eq!(bus.dropped(), 0);
}

/// A subscription that does not read holds at most `queue` messages, loses the rest, and says that it did; others
/// lose nothing; when it reads again it gets what comes.
pub async fn slow_subscriber(bus: Arc<dyn Bus>, queue: usize) {
    let mut slow = listen(&bus, "room.").await;
    let mut quick = listen(&bus, "room.").await;
    let sent = queue * 3;
    for n in 0..sent {
        say(&bus, "room.a", n.to_string().as_bytes());
        expect(&mut quick, &[("room.a", n.to_string().as_bytes())]).await;
    }
    assert_eq!(quick.dropped(), 0);

    say(&bus, "room.b", b"also lost on the slow one");
    expect(&mut quick, &[("room.b", b"also lost on the slow one")]).await;

    let first = frames(&mut slow, 1).await;
    assert_eq!(first[0].1, b"0", "what was queued first is read first");
    assert!(
        slow.dropped() > 0,
        "a reader that misses something is told so"
    );
    assert!(bus.dropped() >= slow.dropped());

    let mut read = 1;
    while let Some(message) = slow.try_recv() {
        for payload in message.frames.iter() {
            assert_eq!(
                payload,
                read.to_string().as_bytes(),
                "what is kept has no hole"
            );
            read += 1;
        }
    }
    assert!(
        read <= queue,
        "the queue holds {queue} messages, and {read} were kept"
    );

    say(&bus, "room.c", b"again");
    expect(&mut slow, &[("room.c", b"again")]).await;
}

/// Each of a thousand topics keeps its own order and mixes with no other.
pub async fn many_topics(bus: Arc<dyn Bus>) {
    const TOPICS: usize = 1000;
    let mut all = listen(&bus, "room.").await;
    let mut one = listen(&bus, "room.500\0").await;
    for n in 0..TOPICS {
        for round in [b"1", b"2"] {
            say(&bus, &format!("room.{n}"), round);
        }
        let name = format!("room.{n}");
        expect(&mut all, &[(&name, b"1"), (&name, b"2")]).await;
    }
    expect(&mut one, &[("room.500", b"1"), ("room.500", b"2")]).await;
}

/// Every subscription that wants a message gets it, once each.
pub async fn several_subscribers(bus: Arc<dyn Bus>) {
    let mut subscriptions = Vec::new();
    for prefix in ["room.a\0", "room.a\0", "room.", "r", ""] {
        subscriptions.push(listen(&bus, prefix).await);
    }
    say(&bus, "room.a", b"1");
    say(&bus, "room.a", b"2");
    for subscription in &mut subscriptions {
        expect(subscription, &[("room.a", b"1"), ("room.a", b"2")]).await;
    }
}

/// After `close` what was queued is still read, then every subscription ends, and nothing new is taken.
pub async fn closing(bus: Arc<dyn Bus>) {
    let mut subscription = listen(&bus, "room.").await;
    let mut witness = listen(&bus, "room.").await;
    say(&bus, "room.a", b"1");
    expect(&mut witness, &[("room.a", b"1")]).await;
    bus.close();
    bus.close();
    let refused = bus.publish(Message::one(topic("room.a"), b"2"));
    assert_eq!(refused, Err(PublishError::Closed));
    let refused = bus.subscribe(Prefix::Everything).await.err();
    assert_eq!(refused, Some(SubscribeError::Closed));
    expect(&mut subscription, &[("room.a", b"1")]).await;
    assert_eq!(next(&mut subscription).await, None);
    assert_eq!(next(&mut witness).await, None);
    assert_eq!(next(&mut witness).await, None, "the end stays the end");
}

/// A reader that waits when the bus is closed is told at once.
pub async fn closing_wakes_a_reader(bus: Arc<dyn Bus>) {
    let mut subscription = listen(&bus, "").await;
    let (end, ()) = tokio::join!(next(&mut subscription), async {
        tokio::task::yield_now().await;
        bus.close();
    });
    assert_eq!(end, None);
}

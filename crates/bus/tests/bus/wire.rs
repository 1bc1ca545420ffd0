//! What only a bus with a wire can do wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use stack_bus::{
    Bus as _, BusConfig, BusUrl, Doubt, Endpoint, Message, OpenBusError, Subscription, WireBus,
};
use stack_types::FramesBuilder;

use crate::support::Place;

const QUEUE: usize = 64;
const PATIENCE: Duration = Duration::from_secs(30);

macro_rules! on_every_wire {
    ($($check:ident),*) => {
        #[cfg(feature = "with-nng")]
        on_every_wire!(@of nng_tcp "nng+tcp"; $($check),*);
        #[cfg(feature = "with-nng")]
        on_every_wire!(@of nng_ipc "nng+ipc"; $($check),*);
        #[cfg(feature = "with-zmq")]
        on_every_wire!(@of zmq_tcp "zmq+tcp"; $($check),*);
        #[cfg(feature = "with-zmq")]
        on_every_wire!(@of zmq_ipc "zmq+ipc"; $($check),*);
        #[cfg(feature = "with-zmq")]
        on_every_wire!(@of zmq_curve "zmq+tcp with CURVE"; $($check),*);
    };
    (@of $name:ident $kind:literal; $($check:ident),*) => {
        mod $name {
            $(
                #[tokio::test]
                async fn $check() {
                    super::$check($kind).await;
                }
            )*
        }
    };
}

on_every_wire!(
    a_publisher_that_is_restarted_is_heard_again,
    a_publisher_that_comes_late_is_heard,
    what_is_said_here_goes_out_and_does_not_come_back,
    a_flood_is_bounded_and_counted,
    last_words_are_sent
);

fn message(topic: &str, payload: &[u8]) -> Message {
    Message::one(topic.parse().unwrap(), payload)
}

async fn listen(bus: &WireBus, prefix: &str) -> Subscription {
    bus.subscribe(prefix.parse().unwrap()).await.unwrap()
}

async fn next(subscription: &mut Subscription) -> Message {
    tokio::time::timeout(PATIENCE, subscription.recv())
        .await
        .expect("a message comes in time")
        .expect("the bus is open")
}

/// Says something again and again until it is heard: what a publisher says before somebody is connected is not heard,
/// and nobody tells it.
async fn say_until_heard(bus: &WireBus, said: &Message, subscription: &mut Subscription) {
    let heard = async {
        loop {
            bus.publish(said.clone()).unwrap();
            let soon = tokio::time::timeout(Duration::from_millis(20), subscription.recv());
            if let Ok(message) = soon.await {
                return message.expect("the bus is open");
            }
        }
    };
    let heard = tokio::time::timeout(PATIENCE, heard).await.unwrap();
    assert_eq!(heard, *said);
}

async fn a_publisher_that_is_restarted_is_heard_again(kind: &str) {
    let mut place = Place::new(kind);
    let first = place.publisher(QUEUE);
    let there = place.subscriber(QUEUE);
    let mut rooms = listen(&there, "room.").await;
    first.publish(message("room.a", b"1")).unwrap();
    assert_eq!(next(&mut rooms).await, message("room.a", b"1"));
    first.close();
    drop(first);

    let second = place.publisher(QUEUE);
    say_until_heard(&second, &message("room.a", b"2"), &mut rooms).await;
    // A subscription of now is confirmed by the new one, and what comes after that is heard.
    let mut user = listen(&there, "user.u\0").await;
    second.publish(message("user.u", b"3")).unwrap();
    assert_eq!(next(&mut user).await, message("user.u", b"3"));
    assert_eq!(there.losses().lost, 0);
}

async fn a_publisher_that_comes_late_is_heard(kind: &str) {
    let mut place = Place::new(kind);
    // For a port that nobody else takes meanwhile.
    drop(place.publisher(QUEUE));
    let there = place.subscriber(QUEUE);
    let mut rooms = listen(&there, "room.").await;
    let here = place.publisher(QUEUE);
    say_until_heard(&here, &message("room.a", b"1"), &mut rooms).await;
}

async fn what_is_said_here_goes_out_and_does_not_come_back(kind: &str) {
    let mut place = Place::new(kind);
    let here = place.publisher(QUEUE);
    let there = place.subscriber(QUEUE);
    let mut own = listen(&here, "").await;
    let mut others = listen(&there, "").await;
    there.publish(message("room.a", b"said there")).unwrap();
    here.publish(message("room.a", b"said here")).unwrap();
    assert_eq!(next(&mut own).await, message("room.a", b"said here"));
    assert_eq!(next(&mut others).await, message("room.a", b"said there"));
    assert_eq!(next(&mut others).await, message("room.a", b"said here"));
    here.publish(message("room.a", b"last")).unwrap();
    assert_eq!(next(&mut own).await, message("room.a", b"last"));
    assert_eq!(next(&mut others).await, message("room.a", b"last"));
}

/// However fast somebody publishes, nobody waits and nothing piles up; and of every frame it is known in the end
/// whether it was heard, and if not, where it was lost.
async fn a_flood_is_bounded_and_counted(kind: &str) {
    const MESSAGES: u64 = 1000;
    const FRAMES: u64 = 256;
    let mut place = Place::new(kind);
    let here = place.publisher(QUEUE);
    let there = place.subscriber(QUEUE);
    let mut rooms = listen(&there, "room.").await;
    // Each of them lets the publisher say its pulse, from which the account begins.
    for _ in 0..3 {
        listen(&place.subscriber(QUEUE), "user.").await;
    }

    let mut batch = FramesBuilder::default();
    for _ in 0..FRAMES {
        batch.push(&[b'x'; 512]);
    }
    let flood = Message::new("room.a".parse().unwrap(), batch.finish());
    for _ in 0..MESSAGES {
        here.publish(flood.clone()).unwrap();
    }
    let mut heard = 0;
    let all_is_known = async {
        loop {
            while rooms.try_recv().is_some() {
                heard += 1;
            }
            let known = heard + there.losses().dropped + there.losses().lost;
            if known == (MESSAGES - here.losses().unsent) * FRAMES {
                return;
            }
            let _ = tokio::time::timeout(Duration::from_millis(50), async {
                if rooms.recv().await.is_some() {
                    heard += 1;
                }
            })
            .await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, all_is_known).await;
    assert!(found.is_ok(), "heard {heard}, {here:?}, {there:?}");
    assert_eq!(
        rooms.dropped(),
        there.losses().dropped + there.losses().lost,
        "a reader is told of both"
    );
}

async fn last_words_are_sent(kind: &str) {
    let mut place = Place::new(kind);
    let here = place.publisher(QUEUE);
    let there = place.subscriber(1000);
    let mut rooms = listen(&there, "room.").await;
    for n in 0..500u32 {
        here.publish(message("room.a", &n.to_be_bytes())).unwrap();
    }
    here.close();
    for n in 0..500u32 {
        assert_eq!(next(&mut rooms).await, message("room.a", &n.to_be_bytes()));
    }
}

fn refused(config: BusConfig) -> OpenBusError {
    WireBus::open(&config).expect_err("it is refused")
}

#[tokio::test]
async fn plain_tcp_stays_on_this_machine() {
    for url in ["nng+tcp://0.0.0.0:0", "zmq+tcp://0.0.0.0:0"] {
        let Ok(url) = url.parse::<BusUrl>() else {
            continue;
        };
        let config = BusConfig {
            url: url.clone(),
            ..BusConfig::default()
        };
        let doubt = match url {
            BusUrl::Nng(_) => Doubt::NngInTheOpen,
            _ => Doubt::ZmqInTheOpen,
        };
        assert_eq!(refused(config), OpenBusError::Refused { url, doubt });
    }
    for url in ["nng+tcp://192.0.2.1:1", "zmq+tcp://example.org:1"] {
        let Ok(url) = url.parse::<BusUrl>() else {
            continue;
        };
        for (publish, subscribe) in [
            (vec![url.clone()], Vec::new()),
            (Vec::new(), vec![url.clone()]),
        ] {
            let config = BusConfig {
                publish,
                subscribe,
                ..BusConfig::default()
            };
            assert!(matches!(refused(config), OpenBusError::Refused { .. }));
        }
    }
}

#[tokio::test]
async fn an_address_that_is_taken_is_refused() {
    for kind in ["nng+tcp", "nng+ipc", "zmq+tcp", "zmq+ipc"] {
        if format!(
            "{kind}://{}",
            if kind.ends_with("ipc") {
                "/x"
            } else {
                "[::1]:1"
            }
        )
        .parse::<BusUrl>()
        .is_err()
        {
            continue;
        }
        let mut place = Place::new(kind);
        let _first = place.publisher(QUEUE);
        let second = BusConfig {
            url: place.url.clone(),
            ..BusConfig::default()
        };
        assert!(
            matches!(refused(second), OpenBusError::Bind { .. }),
            "{kind}"
        );
        if let Some(Endpoint::Ipc(path)) = place.url.endpoint() {
            let mode = fs::symlink_metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{kind}");
        }
    }
}

/// A publisher that dials, and a plain socket that is bound, as a collector would be.
#[cfg(feature = "with-zmq")]
#[tokio::test]
async fn a_collector_of_another_make_is_dialled() {
    let context = zmq::Context::new();
    let collector = context.socket(zmq::SUB).unwrap();
    collector.set_subscribe(b"room.a\0").unwrap();
    collector.set_rcvtimeo(50).unwrap();
    collector.bind("tcp://127.0.0.1:*").unwrap();
    let at = collector.get_last_endpoint().unwrap().unwrap();
    let bus = WireBus::open(&BusConfig {
        publish: vec![format!("zmq+{at}").parse().unwrap()],
        ..BusConfig::default()
    })
    .unwrap();
    let heard = (0..600).find_map(|_| {
        bus.publish(message("room.ab", b"not this")).unwrap();
        bus.publish(message("room.a", b"\0this")).unwrap();
        collector.recv_bytes(0).ok()
    });
    assert_eq!(heard.unwrap(), b"room.a\0\0this");
}

/// Who has no key, or another one, hears nothing; who is authorized does.
#[cfg(feature = "with-zmq")]
#[tokio::test]
async fn curve_lets_in_whom_it_knows() {
    let mut place = Place::new("zmq+tcp with CURVE");
    let here = place.publisher(QUEUE);
    let there = place.subscriber(QUEUE);
    let mut known = listen(&there, "room.").await;

    let stranger = place.client.as_ref().unwrap();
    let stranger = stack_bus::Curve {
        keys: stack_bus::CurveKeys::generate().unwrap(),
        ..stranger.clone()
    };
    let mut others = Vec::new();
    for curve in [Some(stranger), None] {
        let other = WireBus::open(&BusConfig {
            subscribe: vec![place.url.clone()],
            curve,
            ..BusConfig::default()
        })
        .unwrap();
        // It gives up after a moment.
        let rooms = listen(&other, "room.").await;
        others.push((other, rooms));
    }
    for _ in 0..10 {
        here.publish(message("room.a", b"secret")).unwrap();
        assert_eq!(next(&mut known).await, message("room.a", b"secret"));
    }
    for (_, rooms) in &mut others {
        assert_eq!(rooms.try_recv(), None);
    }
}

//! What may happen in a history.

use proptest::prelude::*;

use crate::said::ROOMS;

pub(crate) const CLIENTS: usize = 6;

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// So many messages, queued together.
    Say {
        room: usize,
        count: usize,
        size: usize,
    },
    /// The message so far from the end, if it is one.
    Edit {
        room: usize,
        back: u64,
    },
    Redact {
        room: usize,
        back: u64,
    },
    /// With a cursor so far behind the head, or without one. Repeated, it moves the cursor.
    Subscribe {
        client: usize,
        room: usize,
        back: Option<u64>,
    },
    Unsubscribe {
        client: usize,
        room: usize,
    },
    /// Somebody else ends the client's subscription.
    End {
        client: usize,
        room: usize,
    },
    /// The connection breaks, and the last bytes on it are lost. It comes back when it next does something.
    Break {
        client: usize,
        lost: usize,
    },
    /// Comes back, to the gateway's own hub or to the other, and resumes by its cursors.
    Resume {
        client: usize,
    },
    Stall {
        client: usize,
    },
    /// Takes so many bytes more.
    Take {
        client: usize,
        bytes: usize,
    },
    TakeAll {
        client: usize,
    },
    Heal,
    /// The log of the far hub is out of reach, or is there again.
    Away,
    Back,
    RestartHub,
    /// Store and hubs, while so many messages are on their way.
    Restart {
        on_their_way: usize,
    },
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (client, room) = (0..CLIENTS, 0..ROOMS);
    let both = || (0..CLIENTS, 0..ROOMS);
    let size = prop_oneof![12 => 0usize..200, 1 => 2_000usize..9_000];
    let back = prop_oneof![2 => Just(None), 3 => (0u64..20).prop_map(Some), 2 => (0u64..400).prop_map(Some)];
    let step = prop_oneof![
        16 => (room.clone(), 1usize..12, size).prop_map(|(room, count, size)| Step::Say { room, count, size }),
        1 => (room.clone(), 60usize..200).prop_map(|(room, count)| Step::Say { room, count, size: 3 }),
        3 => (room.clone(), 0u64..60).prop_map(|(room, back)| Step::Edit { room, back }),
        3 => (room, 0u64..60).prop_map(|(room, back)| Step::Redact { room, back }),
        10 => (both(), back).prop_map(|((client, room), back)| Step::Subscribe { client, room, back }),
        2 => both().prop_map(|(client, room)| Step::Unsubscribe { client, room }),
        2 => both().prop_map(|(client, room)| Step::End { client, room }),
        3 => (client.clone(), 0usize..2_000).prop_map(|(client, lost)| Step::Break { client, lost }),
        3 => client.clone().prop_map(|client| Step::Resume { client }),
        5 => client.clone().prop_map(|client| Step::Stall { client }),
        6 => (client.clone(), 1usize..3_000).prop_map(|(client, bytes)| Step::Take { client, bytes }),
        3 => client.prop_map(|client| Step::TakeAll { client }),
        1 => Just(Step::Heal),
        1 => Just(Step::Away),
        2 => Just(Step::Back),
        1 => Just(Step::RestartHub),
        1 => (0usize..30).prop_map(|on_their_way| Step::Restart { on_their_way }),
    ];
    proptest::collection::vec(step, 1..80)
}

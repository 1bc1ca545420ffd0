//! Every transport keeps the same contract: the in-memory bus, a bus with a wire as those in its own process see it,
//! and two of them with the wire between.

use std::sync::Arc;

use stack_bus::{MemBus, bus_conformance};

const QUEUE: usize = 32;

mod mem {
    use super::*;

    bus_conformance!(Arc::new(MemBus::new(QUEUE)), queue = QUEUE);
}

#[cfg(any(feature = "with-nng", feature = "with-zmq"))]
macro_rules! of_wire {
    ($($name:ident: $url:literal),*) => {
        $(
            mod $name {
                mod alone {
                    use super::super::QUEUE;
                    use crate::support;
                    stack_bus::bus_conformance!(support::alone($url, QUEUE), queue = QUEUE);
                }

                mod over_the_wire {
                    use super::super::QUEUE;
                    use crate::support;
                    stack_bus::bus_conformance!(support::over_the_wire($url, QUEUE), queue = QUEUE);
                }
            }
        )*
    };
}

#[cfg(feature = "with-nng")]
of_wire!(nng_tcp: "nng+tcp", nng_ipc: "nng+ipc");

#[cfg(feature = "with-zmq")]
of_wire!(zmq_tcp: "zmq+tcp", zmq_ipc: "zmq+ipc", zmq_curve: "zmq+tcp with CURVE");

//! The in-memory bus keeps the contract that every transport keeps.

use std::sync::Arc;

use stack_bus::{MemBus, bus_conformance};

const QUEUE: usize = 32;

bus_conformance!(Arc::new(MemBus::new(QUEUE)), queue = QUEUE);

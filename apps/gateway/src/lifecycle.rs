//! What everything hangs on that runs beside the requests, and the signals that end it.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The tasks of a gateway and how they learn that it goes down. Cloning shares it.
///
/// A shutdown has two signals. `draining` asks: connections finish what they do, sockets say goodbye. `stopping`
/// orders: whatever is still there when the deadline has passed ends at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lifecycle {
    /// The gateway takes no new work.
    pub(crate) draining: CancellationToken,
    /// The deadline has passed.
    pub(crate) stopping: CancellationToken,
    /// What accepts connections, here and on the local socket. They are counted apart: a gateway that nobody uses has
    /// none of those below.
    pub(crate) serving: TaskTracker,
    /// HTTP connections.
    pub(crate) connections: TaskTracker,
    /// WebSockets. Each is a task of its own, so that its HTTP connection and the buffers of that can go.
    pub(crate) sockets: TaskTracker,
    /// The near ends of WebSockets whose clients are connected to an edge.
    pub(crate) relayed: TaskTracker,
    /// Requests and WebSockets of connections of HTTP/2.
    pub(crate) streams: TaskTracker,
    /// Tasks that serve the others and end after them: sweepers, the bus's readers.
    pub(crate) background: TaskTracker,
    /// Ends the tasks in `background`.
    pub(crate) background_stopping: CancellationToken,
}

impl Lifecycle {
    /// Waits until no connection and no socket is left.
    pub(crate) async fn disconnected(&self) {
        self.serving.close();
        self.connections.close();
        self.sockets.close();
        self.relayed.close();
        self.streams.close();
        // First, so that no connection is taken and missed behind the next line.
        self.serving.wait().await;
        self.connections.wait().await;
        self.sockets.wait().await;
        self.relayed.wait().await;
        self.streams.wait().await;
    }

    /// Ends everything at once, for a gateway that is dropped and not shut down.
    pub(crate) fn abandon(&self) {
        self.draining.cancel();
        self.stopping.cancel();
        self.background_stopping.cancel();
    }
}

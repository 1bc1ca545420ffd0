# What an edge and its origin say to each other: docs/adr/0009-edges.md says why, and what order means what.
#
# Rules of change: docs/PROTOCOL.md, "Changing the schema". Both ends are gateways of one version or of neighbouring ones.
@0xe6c1c2f06a52b7d3;

# What Gateway.edge of gateway.capnp gives.
interface Origin {
  # Begins a link. `instance` names the edge's process: a link of the same one that still stands is ended first, with all
  # of its sockets.
  open @0 (instance :Text, edge :Edge) -> (link :Link, limits :Limits);
}

# What the edge keeps by itself, as the origin has it configured.
struct Limits {
  frameBytes @0 :UInt32;
  httpBodyBytes @1 :UInt32;
  httpTimeoutMs @2 :UInt32;
}

# The origin's end. It lasts as long as the connection.
interface Link {
  # What clients do, in order. Sockets are told apart by numbers that the edge gives and never gives twice.
  up @0 (items :List(Up)) -> stream;
  # A request, served as if its client were connected to the origin. The beginning of the answer's body comes at once; if
  # there is more the sink gets it.
  http @1 (request :HttpRequest, rest :BodySink, body :BodySource) -> (response :HttpResponse);
  # Events of a room behind `after`, without a look at who reads them: readers were let in by a Begin.
  page @2 (room :Text, after :UInt64, events :UInt32, bytes :UInt32) -> (page :LogPage);
  # Where rooms stand now, in the order asked for. It is also how an edge finds out that the origin is there.
  heads @3 (rooms :List(Text)) -> (heads :List(RoomHead));
}

# The edge's end.
interface Edge {
  # What the origin does with sockets, in order.
  down @0 (items :List(Down)) -> stream;
}

struct Up {
  socket @0 :UInt64;
  union {
    text @1 :Text;
    binary @2 :Data;
    ping @3 :Void;
    pong @4 :Void;
    # Nothing more comes from the client.
    ended @5 :Ending;
    # So many bytes of what was written have gone to the client.
    took @6 :UInt32;
    # The socket was there when the last link ended, and takes up where it was.
    reattach @7 :Reattach;
  }

  enum Ending {
    gone @0;
    # A message over the limit.
    tooLong @1;
    notUtf8 @2;
    notWebSocket @3;
  }

  struct Reattach {
    # What the last Standing said. Empty: it has not signed in yet.
    standing @0 :Data;
    # The sub-protocol it speaks. Empty: none was asked for.
    subprotocol @1 :Text;
    rooms @2 :List(Cursor);
    # The client's address, without a port.
    peer @3 :Text;
  }

  struct Cursor {
    room @0 :Text;
    # The last event that the client has been given.
    after @1 :UInt64;
  }
}

struct Down {
  socket @0 :UInt64;
  union {
    # Whole frames, for the client.
    write @1 :Data;
    # A subscription begins; an older one to the same room ends with it.
    begin @2 :Begin;
    # A subscription is over. What it is told stands in it, if anything is.
    end @3 :End;
    # So many of its messages have been taken in.
    took @4 :UInt32;
    # The socket has signed in: what it shows when it is attached again.
    standing @5 :Data;
    # Close it, behind everything written.
    close @6 :Close;
  }

  struct Begin {
    room @0 :Text;
    after @1 :UInt64;
    # Whether the client said where. If not it goes on behind what it has been given already, if that is more.
    exact @2 :Bool;
    # The frames in front of its events: the answer to the request, if one was wanted, and a gap.
    answer @3 :Data;
    gap @4 :Data;
    head @5 :UInt64;
    first @6 :UInt64;
  }

  struct End {
    room @0 :Text;
    last @1 :Data;
  }

  struct Close {
    code @0 :UInt16;
    reason @1 :Text;
  }
}

struct HttpRequest {
  # The client's address and port, as the edge sees them.
  peer @0 :Text;
  method @1 :Text;
  # Path and query.
  target @2 :Text;
  headers @3 :List(Header);
  # The beginning of its body.
  body @4 :Data;
  # What the socket is to be called if this is an upgrade. 0: it is none.
  socket @5 :UInt64;
  # The source has more of the body.
  more @6 :Bool;
}

struct Header {
  name @0 :Text;
  value @1 :Data;
}

struct HttpResponse {
  status @0 :UInt16;
  headers @1 :List(Header);
  body @2 :Data;
  more @3 :Bool;
}

# Gives the rest of a request's body, as it is asked for.
interface BodySource {
  # `last`: nothing comes behind it.
  next @0 () -> (bytes :Data, last :Bool);
}

# Takes the rest of an answer.
interface BodySink {
  chunk @0 (bytes :Data) -> stream;
  # It is complete. A sink that is dropped without it got a part of the answer.
  done @1 () -> ();
}

struct LogPage {
  # The first event's number.
  from @0 :UInt64;
  # Frames as they go to a socket, and where each ends.
  frames @1 :Data;
  ends @2 :List(UInt32);
  at @3 :RoomHead;
}

struct RoomHead {
  head @0 :UInt64;
  first @1 :UInt64;
  # There is no such room, or no more.
  gone @2 :Bool;
}

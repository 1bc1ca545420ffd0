// A room server on Node's `ws`, in memory: the same frames as Stack's, and nothing kept.
//
//   node ws.mjs PORT [corked]
//
// Plain, a message is sent to each client at once. Corked, everything that is sent to a client within one turn of
// the event loop goes out in one write.
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';

const [port, mode] = process.argv.slice(2);
const corked = mode === 'corked';

const rooms = new Map();
const waiting = new Set();

function roomOf(name) {
  let room = rooms.get(name);
  if (!room) {
    room = { seq: 0, readers: new Set() };
    rooms.set(name, room);
  }
  return room;
}

function uncorkAll() {
  for (const socket of waiting) {
    socket.uncork();
  }
  waiting.clear();
}

function send(client, text) {
  if (corked) {
    const socket = client._socket;
    if (!waiting.has(socket)) {
      if (waiting.size === 0) {
        setImmediate(uncorkAll);
      }
      waiting.add(socket);
      socket.cork();
    }
  }
  client.send(text, { binary: false });
}

function ok(client, id, payload) {
  send(client, JSON.stringify({ type: 'ok', id, payload }));
}

const http = createServer((_, response) => response.end('ok'));
const server = new WebSocketServer({ server: http, perMessageDeflate: false, clientTracking: false });

server.on('connection', (client) => {
  const joined = [];
  client.on('error', () => {});
  client.on('close', () => {
    for (const room of joined) {
      room.readers.delete(client);
    }
  });
  client.on('message', (data) => {
    const { type, id, payload } = JSON.parse(data);
    const room = roomOf(payload.room);
    if (type === 'subscribe') {
      room.readers.add(client);
      joined.push(room);
      ok(client, id, { room: payload.room, head: room.seq });
    } else if (type === 'send') {
      const seq = ++room.seq;
      const ts = Date.now();
      const event = {
        type: 'message',
        payload: { room: payload.room, seq, ts, sender: 'u7V3kT9mWc2XhRb8QpLzYdNf', body: payload.body },
      };
      // Encoded once for all.
      const frame = Buffer.from(JSON.stringify(event));
      for (const reader of room.readers) {
        send(reader, frame);
      }
      ok(client, id, { room: payload.room, seq, ts });
    }
  });
});

http.listen(Number(port), '127.0.0.1', 4096);

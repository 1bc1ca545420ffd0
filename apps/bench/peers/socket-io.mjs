// A room server on Socket.IO, in memory, over WebSocket alone.
//
//   node socket-io.mjs PORT
import { createServer } from 'node:http';
import { Server } from 'socket.io';

const [port] = process.argv.slice(2);

const seqs = new Map();

const http = createServer((_, response) => response.end('ok'));
const server = new Server(http, {
  transports: ['websocket'],
  perMessageDeflate: false,
  serveClient: false,
});

server.on('connection', (socket) => {
  socket.on('subscribe', ({ room }, answer) => {
    socket.join(room);
    answer({ room });
  });
  socket.on('send', ({ room, body }, answer) => {
    const seq = (seqs.get(room) ?? 0) + 1;
    seqs.set(room, seq);
    const ts = Date.now();
    server.to(room).emit('message', { room, seq, ts, sender: 'u7V3kT9mWc2XhRb8QpLzYdNf', body });
    answer({ room, seq, ts });
  });
});

http.listen(Number(port), '127.0.0.1', 4096);

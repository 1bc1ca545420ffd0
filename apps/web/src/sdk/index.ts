// The public face of the SDK: everything a program needs to talk to a Stack gateway, and nothing of React.
//
//   const stack = createClient({ origin: 'https://chat.example.org' });
//   await stack.api.login('ada', 'a long enough password');
//   stack.realtime.on('event', (event) => console.log(event));
//   stack.realtime.start();
//   stack.realtime.subscribe('general', { after: 0 });
//   await stack.realtime.send('general', 'hello').receipt;

import { Api } from './api';
import { browserEnvironment, type Environment } from './environment';
import { HttpClient } from './http';
import { RealtimeClient } from './realtime';

export type { Api, HistoryQuery, Registration } from './api';
export type { ClosedReason, ConnectionState } from './connection';
export { Emitter } from './emitter';
export { browserEnvironment, type Environment, type SocketLike } from './environment';
export { type ErrorCode, isSignedOut, StackError } from './errors';
export type { Sending, SendOptions } from './outbox';
export type { RealtimeClient, RealtimeEvents } from './realtime';
export type { EndReason, SubscribeOptions } from './subscriptions';
export {
  type PendingMessage,
  type Reaction,
  Timeline,
  type TimelineItem,
  type TimelineMessage,
  type TimelineNote,
  type TimelineState,
} from './timeline';
export * from './types';

export interface ClientOptions {
  /** Where the gateway stands, for example `https://chat.example.org`. */
  origin: string;
  /** Replaces the browser's facilities, for tests and other runtimes. */
  env?: Environment;
  /** Called once an HTTP call finds that the session is over. */
  onSignedOut?: () => void;
}

export interface StackClient {
  api: Api;
  realtime: RealtimeClient;
}

/** Makes a client. Nothing is sent until it is used. */
export function createClient(options: ClientOptions): StackClient {
  const env = options.env ?? browserEnvironment();
  const http = new HttpClient({
    origin: options.origin,
    env,
    ...(options.onSignedOut ? { onSignedOut: options.onSignedOut } : {}),
  });
  const url = `${options.origin.replace(/^http/, 'ws')}/ws`;
  return { api: new Api(http), realtime: new RealtimeClient({ url, env, refresher: http.refresher }) };
}

// The public face of the SDK: everything a program needs to talk to a Stack gateway, and nothing of React.
//
//   const stack = createClient({ origin: 'https://chat.example.org' });
//   await stack.auth.login('ada', 'a long enough password');
//   stack.realtime.on('event', (event) => console.log(event));
//   stack.realtime.start();
//   stack.realtime.subscribe('general', { after: 0 });
//   await stack.realtime.send('general', 'hello').receipt;

import { AdminApi } from './admin-api';
import { Api } from './api';
import { AuthApi } from './auth-api';
import { browserEnvironment, type Environment } from './environment';
import { HttpClient } from './http';
import { RealtimeClient } from './realtime';

export type { AdminApi, NewApiKey, NewUser } from './admin-api';
export type { Api, HistoryQuery } from './api';
export type { AuthApi, NewAccount, Registration } from './auth-api';
export type { ClosedReason, ConnectionState } from './connection';
export { Emitter } from './emitter';
export { browserEnvironment, type Environment, type SocketLike } from './environment';
export { type ErrorCode, isCancelled, isSignedOut, StackError } from './errors';
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
export { offersAutofill, type PasskeyObstacle, passkeyObstacle } from './webauthn';

export interface ClientOptions {
  /** Where the gateway stands, for example `https://chat.example.org`. */
  origin: string;
  /** Replaces the browser's facilities, for tests and other runtimes. */
  env?: Environment;
  /** Called once an HTTP call finds that the session is over. */
  onSignedOut?: () => void;
  /** Asks the person to sign in once more, where the gateway wants that; the call is then repeated. */
  reauthenticate?: () => Promise<void>;
}

export interface StackClient {
  api: Api;
  auth: AuthApi;
  admin: AdminApi;
  realtime: RealtimeClient;
}

/** Makes a client. Nothing is sent until it is used. */
export function createClient(options: ClientOptions): StackClient {
  const env = options.env ?? browserEnvironment();
  const http = new HttpClient({
    origin: options.origin,
    env,
    ...(options.onSignedOut ? { onSignedOut: options.onSignedOut } : {}),
    ...(options.reauthenticate ? { reauthenticate: options.reauthenticate } : {}),
  });
  const url = `${options.origin.replace(/^http/, 'ws')}/ws`;
  return {
    api: new Api(http),
    auth: new AuthApi(http),
    admin: new AdminApi(http),
    realtime: new RealtimeClient({ url, env, refresher: http.refresher }),
  };
}

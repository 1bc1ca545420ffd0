// One error type for HTTP problems, socket errors and what goes wrong on this side of the network.

/** Codes the gateway can answer with, one closed list for HTTP and the socket. */
export type ServerErrorCode =
  | 'bad_request'
  | 'invalid_field'
  | 'unauthenticated'
  | 'invalid_credentials'
  | 'token_expired'
  | 'token_reused'
  | 'second_factor_required'
  | 'forbidden'
  | 'csrf_failed'
  | 'not_found'
  | 'method_not_allowed'
  | 'conflict'
  | 'limit_exceeded'
  | 'gone'
  | 'payload_too_large'
  | 'unsupported_media_type'
  | 'rate_limited'
  | 'internal'
  | 'timeout'
  | 'unavailable';

/** Codes that arise in the client: no answer was had, the client was closed, or the person changed their mind. */
export type LocalErrorCode = 'network' | 'connection_lost' | 'closed' | 'cancelled' | 'no_passkey';

export type ErrorCode = ServerErrorCode | LocalErrorCode;

const RETRYABLE: ReadonlySet<string> = new Set<ErrorCode>([
  'rate_limited',
  'internal',
  'timeout',
  'unavailable',
  'network',
  'connection_lost',
]);

export interface StackErrorDetails {
  status?: number;
  retryable?: boolean;
  retryAfterMs?: number;
  field?: string;
  /** Of `second_factor_required`: what the second step is sent with. */
  ticket?: string;
  requestId?: string;
}

/** Every failure the SDK reports. `code` is stable and made for `switch`; `message` is made for people. */
export class StackError extends Error {
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly status: number | undefined;
  readonly retryAfterMs: number | undefined;
  readonly field: string | undefined;
  readonly ticket: string | undefined;
  readonly requestId: string | undefined;

  constructor(code: ErrorCode, message: string, details: StackErrorDetails = {}) {
    super(message);
    this.name = 'StackError';
    this.code = code;
    this.retryable = details.retryable ?? RETRYABLE.has(code);
    this.status = details.status;
    this.retryAfterMs = details.retryAfterMs;
    this.field = details.field;
    this.ticket = details.ticket;
    this.requestId = details.requestId;
  }
}

/** Whether the session is over: no refresh will bring it back. */
export function isSignedOut(error: unknown): boolean {
  return (
    error instanceof StackError &&
    (error.code === 'unauthenticated' ||
      error.code === 'token_expired' ||
      error.code === 'token_reused' ||
      error.code === 'invalid_credentials')
  );
}

/** Whether an answer means that the access token has to be renewed before trying again. */
export function needsRefresh(code: string): boolean {
  return code === 'token_expired' || code === 'unauthenticated';
}

/** Whether the gateway wants to see a sign-in of the last minutes before it does this. */
export function needsReauthentication(error: unknown): boolean {
  return error instanceof StackError && error.code === 'forbidden' && error.field === 'reauthenticate';
}

/** Whether somebody broke off what they had begun; that is no failure to speak of. */
export function isCancelled(error: unknown): boolean {
  return error instanceof StackError && error.code === 'cancelled';
}

const BY_STATUS: Record<number, ServerErrorCode> = {
  400: 'bad_request',
  401: 'unauthenticated',
  403: 'forbidden',
  404: 'not_found',
  405: 'method_not_allowed',
  409: 'conflict',
  410: 'gone',
  413: 'payload_too_large',
  415: 'unsupported_media_type',
  422: 'invalid_field',
  429: 'rate_limited',
  503: 'unavailable',
  504: 'timeout',
};

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function number(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
}

/** Builds the error for a failed HTTP answer; a body that is no problem+json is judged by its status. */
export function errorFromProblem(status: number, body: unknown, retryAfter: string | null): StackError {
  const problem = (typeof body === 'object' && body !== null ? body : {}) as Record<string, unknown>;
  const code = (text(problem.code) ?? BY_STATUS[status] ?? 'internal') as ErrorCode;
  const seconds = retryAfter === null ? Number.NaN : Number(retryAfter);
  const retryAfterMs =
    number(problem.retry_after_ms) ?? (Number.isFinite(seconds) ? seconds * 1000 : undefined);
  return new StackError(code, text(problem.detail) ?? text(problem.title) ?? `HTTP ${status}`, {
    status,
    ...optional('retryAfterMs', retryAfterMs),
    ...optional('field', text(problem.field)),
    ...optional('ticket', text(problem.ticket)),
    ...optional('requestId', text(problem.request_id)),
  });
}

/** Builds the error for an `error` frame. */
export function errorFromFrame(payload: Record<string, unknown>): StackError {
  return new StackError(
    (text(payload.code) ?? 'internal') as ErrorCode,
    text(payload.message) ?? 'the server refused the request',
    {
      ...(typeof payload.retryable === 'boolean' ? { retryable: payload.retryable } : {}),
      ...optional('retryAfterMs', number(payload.retry_after_ms)),
      ...optional('field', text(payload.field)),
    },
  );
}

function optional<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]?: V });
}

// Sending an account form: one request at a time, and the server's words at the field they are about.

import { type FormEvent, useCallback, useState } from 'react';
import { type ErrorCode, isCancelled, StackError } from '../../sdk';
import { sentence } from '../../state/toasts';

export type Words = Partial<Record<ErrorCode, string>>;

const WORDS: Words = {
  invalid_credentials: 'That username and password do not match.',
  network: 'The server cannot be reached. Check your connection.',
};

interface Failure {
  field: string | null;
  text: string;
}

export function failureOf(error: unknown, words: Words = {}): Failure {
  if (!(error instanceof StackError)) return { field: null, text: 'Something went wrong. Try again.' };
  if (error.code === 'rate_limited') {
    const seconds = Math.ceil((error.retryAfterMs ?? 60_000) / 1000);
    const wait = seconds < 90 ? `${seconds} seconds` : `${Math.ceil(seconds / 60)} minutes`;
    return { field: null, text: `Too many tries. Wait ${wait}, then try again.` };
  }
  const text = words[error.code] ?? WORDS[error.code] ?? sentence(error.message);
  return { field: error.field ?? null, text };
}

export interface Form {
  busy: boolean;
  submit(event: FormEvent): void;
  /** Sends something else than the form itself, such as the answer of a passkey, with the same care. */
  run(send: () => Promise<void>, words?: Words): void;
  /** Shows a failure that came about elsewhere. */
  fail(error: unknown, words?: Words): void;
  /** What to say at a field, or null. */
  errorAt(field: string): string | null;
  /** What to say about the form: whatever belongs to no field that it shows. */
  formError: string | null;
}

/** @param fields the names of the fields shown, as the server names them */
export function useAuthForm(fields: readonly string[], send: () => Promise<void>, words?: Words): Form {
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Failure | null>(null);
  const known = failure?.field != null && fields.includes(failure.field);
  const fail = useCallback((error: unknown, words?: Words) => {
    // Whoever breaks something off knows that it did not happen.
    if (!isCancelled(error)) setFailure(failureOf(error, words));
  }, []);
  const run = (send: () => Promise<void>, words?: Words) => {
    if (busy) return;
    setBusy(true);
    setFailure(null);
    send()
      .catch((error: unknown) => fail(error, words))
      .finally(() => setBusy(false));
  };
  return {
    busy,
    submit: (event) => {
      event.preventDefault();
      run(send, words);
    },
    run,
    fail,
    errorAt: (field) => (known && failure.field === field ? failure.text : null),
    formError: failure !== null && !known ? failure.text : null,
  };
}

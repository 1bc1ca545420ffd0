// Sending an account form: one request at a time, and the server's words at the field they are about.

import { type FormEvent, useState } from 'react';
import { type ErrorCode, StackError } from '../../sdk';
import { sentence } from '../../state/toasts';

const WORDS: Partial<Record<ErrorCode, string>> = {
  invalid_credentials: 'That username and password do not match.',
  network: 'The server cannot be reached. Check your connection.',
};

interface Failure {
  field: string | null;
  text: string;
}

function failureOf(error: unknown): Failure {
  if (!(error instanceof StackError)) return { field: null, text: 'Something went wrong. Try again.' };
  if (error.code === 'rate_limited') {
    const seconds = Math.ceil((error.retryAfterMs ?? 60_000) / 1000);
    const wait = seconds < 90 ? `${seconds} seconds` : `${Math.ceil(seconds / 60)} minutes`;
    return { field: null, text: `Too many tries. Wait ${wait}, then try again.` };
  }
  return { field: error.field ?? null, text: WORDS[error.code] ?? sentence(error.message) };
}

export interface Form {
  busy: boolean;
  submit(event: FormEvent): void;
  /** What to say at a field, or null. */
  errorAt(field: string): string | null;
  /** What to say about the form: whatever belongs to no field that it shows. */
  formError: string | null;
}

/** @param fields the names of the fields shown, as the server names them */
export function useAuthForm(fields: readonly string[], send: () => Promise<void>): Form {
  const [busy, setBusy] = useState(false);
  const [failure, setFailure] = useState<Failure | null>(null);
  const known = failure?.field != null && fields.includes(failure.field);
  return {
    busy,
    submit: (event) => {
      event.preventDefault();
      if (busy) return;
      setBusy(true);
      setFailure(null);
      send()
        .catch((error: unknown) => setFailure(failureOf(error)))
        .finally(() => setBusy(false));
    },
    errorAt: (field) => (known && failure.field === field ? failure.text : null),
    formError: failure !== null && !known ? failure.text : null,
  };
}

// Offers passkeys among the suggestions of the username field while the page stands.

import { useEffect } from 'react';
import { useSession } from '../../app/context';
import { isCancelled, offersAutofill, StackError } from '../../sdk';

/** The gateway keeps a ceremony for five minutes; the offer is renewed before that. */
const RENEW_MS = 4 * 60_000;

/**
 * @param round counts up to make the offer again after another request has ended it
 * @param onRefused is told when the gateway did not take the passkey; the offer is then over
 */
export function useAutofill(enabled: boolean, round: number, onRefused: (error: unknown) => void): void {
  const session = useSession();
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new round is a new offer
  useEffect(() => {
    if (!enabled) return;
    const stop = new AbortController();
    const offer = async () => {
      if (!(await offersAutofill())) return;
      while (!stop.signal.aborted) {
        const renewal = AbortSignal.timeout(RENEW_MS);
        try {
          const until = AbortSignal.any([stop.signal, renewal]);
          await session.enter((auth) => auth.loginByAutofill(until));
          return;
        } catch (error) {
          if (isCancelled(error) && renewal.aborted) continue;
          if (error instanceof StackError && error.code === 'invalid_credentials') onRefused(error);
          return;
        }
      }
    };
    void offer();
    return () => stop.abort();
  }, [session, enabled, round, onRefused]);
}

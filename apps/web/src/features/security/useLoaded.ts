// A list that a page shows: loading, failed, or there; loaded again after each change.

import { useCallback, useEffect, useState } from 'react';

export type Loaded<T> = { status: 'loading' } | { status: 'failed' } | { status: 'ready'; value: T };

/** @param load must keep its identity while it means the same */
export function useLoaded<T>(load: () => Promise<T>): [Loaded<T>, () => void] {
  const [state, setState] = useState<Loaded<T>>({ status: 'loading' });
  const [round, setRound] = useState(0);
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new round loads again
  useEffect(() => {
    let gone = false;
    load().then(
      (value) => gone || setState({ status: 'ready', value }),
      // What is there already is better than an error in its place.
      () => gone || setState((state) => (state.status === 'ready' ? state : { status: 'failed' })),
    );
    return () => {
      gone = true;
    };
  }, [load, round]);
  return [state, useCallback(() => setRound((round) => round + 1), [])];
}

// Whether somebody looks at the newest message right now; only then does it count as read.

import { useEffect, useSyncExternalStore } from 'react';
import type { RoomModel } from '../../state/room-model';

function subscribe(changed: () => void): () => void {
  document.addEventListener('visibilitychange', changed);
  window.addEventListener('focus', changed);
  window.addEventListener('blur', changed);
  return () => {
    document.removeEventListener('visibilitychange', changed);
    window.removeEventListener('focus', changed);
    window.removeEventListener('blur', changed);
  };
}

export function useAttention(model: RoomModel, atEnd: boolean, newest: number): void {
  const looking = useSyncExternalStore(
    subscribe,
    () => document.visibilityState === 'visible' && document.hasFocus(),
  );
  const attended = looking && atEnd;
  useEffect(() => {
    model.attend(attended);
    return () => model.attend(false);
  }, [model, attended]);
  // biome-ignore lint/correctness/useExhaustiveDependencies: what is new is read as it comes
  useEffect(() => {
    if (attended) model.markRead();
  }, [model, attended, newest]);
}

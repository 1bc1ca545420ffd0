// Keeps the keyboard's place: where a list changes, the button that had the focus may go with its row.

import { type RefObject, useEffect, useRef } from 'react';

/** After each change of what is shown, focus that fell out of the panel comes back to it. */
export function useKeptFocus(panel: RefObject<HTMLElement | null>, ...shown: readonly unknown[]): void {
  const inside = useRef(false);
  useEffect(() => {
    const look = () => {
      inside.current = panel.current?.contains(document.activeElement) ?? false;
    };
    // Elements that are taken away say nothing of losing the focus, so only what gets it is listened to.
    document.addEventListener('focusin', look);
    document.addEventListener('pointerdown', look);
    return () => {
      document.removeEventListener('focusin', look);
      document.removeEventListener('pointerdown', look);
    };
  }, [panel]);
  useEffect(() => {
    if (inside.current && document.activeElement === document.body) panel.current?.focus();
  }, [panel, ...shown]);
}

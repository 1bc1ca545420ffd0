// Lets a text field be as high as its text, up to the limit its style sets.

import { type RefObject, useLayoutEffect } from 'react';

export function useAutoGrow(ref: RefObject<HTMLTextAreaElement | null>, text: string): void {
  // biome-ignore lint/correctness/useExhaustiveDependencies: the height follows from the text that was just drawn
  useLayoutEffect(() => {
    const field = ref.current;
    if (field === null) return;
    field.style.height = 'auto';
    field.style.height = `${field.scrollHeight}px`;
  }, [ref, text]);
}

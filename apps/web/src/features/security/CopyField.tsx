// A secret that is shown once, with a button that copies it.

import { useId } from 'react';
import { useChat } from '../../app/context';
import type { Toasts } from '../../state/toasts';
import { Button } from '../../ui/Button';
import { Icon } from '../../ui/Icon';
import styles from './security.module.css';

/** Copies, and says whether it worked; a browser may not allow it. */
export async function copy(text: string, toasts: Toasts): Promise<void> {
  try {
    await navigator.clipboard.writeText(text);
    toasts.show('Copied.');
  } catch {
    toasts.show('Your browser did not allow copying. Select the text instead.', 'danger');
  }
}

export function CopyField({ label, value }: { label: string; value: string }) {
  const chat = useChat();
  const id = useId();
  return (
    <div className={styles.copy}>
      <label htmlFor={id} className="visually-hidden">
        {label}
      </label>
      <input
        id={id}
        className={styles.copyText}
        readOnly
        value={value}
        onFocus={(event) => event.target.select()}
      />
      <Button onClick={() => void copy(value, chat.toasts)}>
        <Icon name="copy" size={18} />
        Copy
      </Button>
    </div>
  );
}

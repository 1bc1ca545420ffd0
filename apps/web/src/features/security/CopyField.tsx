// A secret that is shown once, with a button that copies it.

import { useId, useState } from 'react';
import { Button } from '../../ui/Button';
import { Icon } from '../../ui/Icon';
import styles from './security.module.css';

type Outcome = 'copied' | 'refused' | null;

/** Copies, and says so itself: a toast would stand behind the dialog that this is in. */
export function CopyButton({ text }: { text: string }) {
  const [outcome, setOutcome] = useState<Outcome>(null);
  const copy = () => {
    // A browser may not allow it; the text can be selected all the same.
    navigator.clipboard.writeText(text).then(
      () => setOutcome('copied'),
      () => setOutcome('refused'),
    );
  };
  return (
    <Button onClick={copy} aria-live="polite">
      <Icon name={outcome === 'copied' ? 'check' : 'copy'} size={18} />
      {outcome === null ? 'Copy' : outcome === 'copied' ? 'Copied' : 'Not allowed'}
    </Button>
  );
}

export function CopyField({ label, value }: { label: string; value: string }) {
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
      <CopyButton text={value} />
    </div>
  );
}

// The second step: six digits from an app, or one of the recovery codes.

import { useState } from 'react';
import { useSession } from '../../app/context';
import { StackError } from '../../sdk';
import { Button } from '../../ui/Button';
import { FormError } from '../../ui/Field';
import { AuthLayout } from './AuthLayout';
import styles from './auth.module.css';
import { CodeField } from './CodeField';
import { useAuthForm } from './useAuthForm';
import { CODE_WORDS } from './words';

/** The ticket is spent or too old; only the password brings a new one. */
const OVER = new Set(['unauthenticated', 'token_expired', 'gone', 'not_found']);

interface SecondFactorProps {
  ticket: string;
  onBack(): void;
  onDone?(): void;
}

export function SecondFactor({ ticket, onBack, onDone }: SecondFactorProps) {
  const session = useSession();
  const [code, setCode] = useState('');
  const [recovery, setRecovery] = useState(false);
  const [over, setOver] = useState(false);
  const form = useAuthForm(
    ['code'],
    async () => {
      try {
        await session.enter((auth) => auth.secondFactor(ticket, code.trim()));
        onDone?.();
      } catch (error) {
        setCode('');
        if (error instanceof StackError && OVER.has(error.code)) setOver(true);
        else throw error;
      }
    },
    CODE_WORDS,
  );
  if (over) {
    return (
      <AuthLayout title="That took too long" lead="Enter your password again to go on.">
        <div className={styles.form}>
          <Button variant="primary" onClick={onBack}>
            Back to sign in
          </Button>
        </div>
      </AuthLayout>
    );
  }
  return (
    <AuthLayout
      title="One more step"
      lead={
        recovery
          ? 'Enter one of the recovery codes that you kept. Each works once.'
          : 'Enter the six digits that your authenticator app shows.'
      }
    >
      <form className={styles.form} onSubmit={form.submit}>
        <FormError>{form.formError}</FormError>
        <CodeField
          key={String(recovery)}
          recovery={recovery}
          value={code}
          error={form.errorAt('code')}
          onChange={setCode}
        />
        <Button type="submit" variant="primary" busy={form.busy} disabled={code.trim() === ''}>
          Go on
        </Button>
      </form>
      <p className={styles.other}>
        <button
          type="button"
          className={styles.link}
          onClick={() => {
            setRecovery(!recovery);
            setCode('');
          }}
        >
          {recovery ? 'Use the app instead' : 'Use a recovery code'}
        </button>
        {' · '}
        <button type="button" className={styles.link} onClick={onBack}>
          Start again
        </button>
      </p>
    </AuthLayout>
  );
}

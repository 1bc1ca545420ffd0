// The form that makes an account: a name, and a passkey or a password. Signing up, invites and the first run use it.

import { type ReactNode, useRef, useState } from 'react';
import type { NewAccount, Registration } from '../../sdk';
import { Button } from '../../ui/Button';
import { FormError, TextField } from '../../ui/Field';
import styles from './auth.module.css';
import { passwordHint } from './password';
import { useAuthForm } from './useAuthForm';
import { Or, PasskeyButton } from './Ways';

interface AccountFormProps {
  /** Why there can be no passkey, or null. */
  noPasskeys: string | null;
  /** Set where the reason is worth telling. */
  explain?: boolean;
  leastPassword: number;
  byPasskey(account: NewAccount): Promise<void>;
  byPassword(account: Registration): Promise<void>;
  /** More ways, shown after the passkey. */
  children?: ReactNode;
}

export function AccountForm(props: AccountFormProps) {
  const [displayName, setDisplayName] = useState('');
  const [username, setUsername] = useState('');
  const [password, setPassword] = useState('');
  const element = useRef<HTMLFormElement>(null);
  const passkeys = props.noPasskeys === null;
  const account = (): NewAccount => ({
    username: username.trim(),
    ...(displayName.trim() === '' ? {} : { display_name: displayName.trim() }),
  });
  const byPasskey = () => props.byPasskey(account());
  const form = useAuthForm(['username', 'password', 'display_name'], () =>
    password === '' && passkeys ? byPasskey() : props.byPassword({ ...account(), password }),
  );
  return (
    <form ref={element} className={styles.form} onSubmit={form.submit}>
      <FormError>{form.formError}</FormError>
      <TextField
        label="Your name"
        name="name"
        autoComplete="name"
        autoFocus
        maxLength={64}
        placeholder="Ada Lovelace"
        value={displayName}
        error={form.errorAt('display_name')}
        onChange={(event) => setDisplayName(event.target.value)}
      />
      <TextField
        label="Username"
        name="username"
        autoComplete="username"
        autoCapitalize="none"
        spellCheck={false}
        required
        prefix="@"
        placeholder="ada"
        value={username}
        error={form.errorAt('username')}
        onChange={(event) => setUsername(event.target.value)}
      />
      {passkeys && (
        <>
          <PasskeyButton
            label="Sign up with a passkey"
            busy={form.busy}
            onClick={() => element.current?.reportValidity() && form.run(byPasskey)}
          />
          <p className={styles.note}>
            Your fingerprint, face or screen lock signs you in. There is nothing to remember and nothing to
            steal.
          </p>
        </>
      )}
      {!passkeys && props.explain && (
        <p className={styles.notice}>{props.noPasskeys} A password does for now; a passkey can follow.</p>
      )}
      {props.children}
      {(passkeys || props.children) && <Or />}
      <TextField
        label="Password"
        name="password"
        type="password"
        autoComplete="new-password"
        required={!passkeys}
        value={password}
        hint={passwordHint(password, props.leastPassword)}
        error={form.errorAt('password')}
        onChange={(event) => setPassword(event.target.value)}
      />
      <Button
        type="submit"
        variant={passkeys ? 'secondary' : 'primary'}
        busy={form.busy}
        disabled={passkeys && password === '' ? true : undefined}
      >
        Create account
      </Button>
    </form>
  );
}

// Asks who one is once more, before something that changes how one signs in.

import { useEffect, useState } from 'react';
import { useChat, useSession } from '../../app/context';
import { useStore } from '../../app/hooks';
import { type LinkedAccount, passkeyObstacle, StackError } from '../../sdk';
import { Button } from '../../ui/Button';
import { Dialog } from '../../ui/Dialog';
import { FormError, TextField } from '../../ui/Field';
import { CodeField } from '../auth/CodeField';
import { useAuthForm } from '../auth/useAuthForm';
import { Or, PasskeyButton } from '../auth/Ways';
import { PASSKEY_WORDS } from '../auth/words';
import styles from './security.module.css';

export function ReauthDialog() {
  const { reauthentication } = useSession();
  return useStore(reauthentication.asked) ? <Question /> : null;
}

interface Ways {
  passkeys: boolean;
  links: readonly LinkedAccount[];
}

function Question() {
  const chat = useChat();
  const { reauthentication } = useSession();
  const { auth } = chat.client;
  const [ways, setWays] = useState<Ways>({ passkeys: false, links: [] });
  const [password, setPassword] = useState('');
  const [code, setCode] = useState<string | null>(null);
  useEffect(() => {
    let gone = false;
    void Promise.allSettled([auth.passkeys(), auth.links()]).then(([passkeys, links]) => {
      if (gone) return;
      setWays({
        passkeys: passkeyObstacle() === null && passkeys.status === 'fulfilled' && passkeys.value.some(inUse),
        links: links.status === 'fulfilled' ? links.value : [],
      });
    });
    return () => {
      gone = true;
    };
  }, [auth]);
  const form = useAuthForm(
    ['password', 'code'],
    async () => {
      try {
        await auth.reauthenticate(password, code?.trim() || undefined);
      } catch (error) {
        const wantsCode = error instanceof StackError && error.field === 'code' && code === null;
        if (!wantsCode) throw error;
        setCode('');
        return;
      }
      reauthentication.done();
    },
    {
      invalid_credentials:
        code === null ? 'That is not your password.' : 'That password or code is not right.',
    },
  );
  const byPasskey = async () => {
    await auth.reauthenticateWithPasskey();
    reauthentication.done();
  };
  const away = async (provider: string) => {
    location.assign(await auth.linkUrl(provider, location.pathname, true));
  };
  return (
    <Dialog title="Is it you?" onClose={reauthentication.cancel}>
      <form className={styles.question} onSubmit={form.submit}>
        <p className={styles.text}>
          This changes how you sign in, or gives somebody power. Please confirm that it is you.
        </p>
        <FormError>{form.formError}</FormError>
        {ways.passkeys && (
          <PasskeyButton
            label="Confirm with a passkey"
            busy={form.busy}
            onClick={() => form.run(byPasskey, PASSKEY_WORDS)}
          />
        )}
        {ways.links.map((link) => (
          <Button key={link.id} busy={form.busy} onClick={() => form.run(() => away(link.provider))}>
            Confirm with {link.title}
          </Button>
        ))}
        {(ways.passkeys || ways.links.length > 0) && <Or />}
        <input type="text" autoComplete="username" value={chat.me.get().username} readOnly hidden />
        <TextField
          label="Your password"
          type="password"
          autoComplete="current-password"
          required
          value={password}
          error={form.errorAt('password')}
          onChange={(event) => setPassword(event.target.value)}
        />
        {code !== null && <CodeField value={code} error={form.errorAt('code')} onChange={setCode} />}
        <Button type="submit" variant={ways.passkeys ? 'secondary' : 'primary'} busy={form.busy}>
          Confirm
        </Button>
      </form>
    </Dialog>
  );
}

function inUse(passkey: { suspended_at?: number | null }): boolean {
  return passkey.suspended_at == null;
}

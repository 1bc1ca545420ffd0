// Accounts elsewhere that sign one in here.

import { useState } from 'react';
import { useChat } from '../../app/context';
import { paths } from '../../app/router';
import { ago } from '../../lib/format';
import { type LinkedAccount, StackError } from '../../sdk';
import { Button } from '../../ui/Button';
import { Confirm } from '../../ui/Dialog';
import { Icon } from '../../ui/Icon';
import { Empty, Spinner } from '../../ui/Misc';
import { useFacts } from '../auth/facts';
import settings from '../settings/settings.module.css';
import { Failed } from './PasskeyList';
import { Section } from './Section';
import styles from './security.module.css';
import { useLoaded } from './useLoaded';

export function LinkedAccounts() {
  const chat = useChat();
  const { auth } = chat.client;
  const { providers } = useFacts();
  const [load] = useState(() => () => auth.links());
  const [list, reload] = useLoaded(load);
  const [removing, setRemoving] = useState<LinkedAccount | null>(null);
  const [leaving, setLeaving] = useState(false);
  if (list.status === 'loading') return <Spinner label="Loading linked accounts" />;
  if (list.status === 'failed') return <Failed what="Your linked accounts" again={reload} />;
  const links = list.value;
  const free = providers.filter(({ name }) => !links.some((link) => link.provider === name));
  if (links.length === 0 && free.length === 0) {
    return (
      <Empty icon="link" title="Nothing to link">
        <p>This server knows no other services to sign in with.</p>
      </Empty>
    );
  }
  const link = (provider: string) => {
    setLeaving(true);
    auth
      .linkUrl(provider, paths.linked)
      .then((url) => location.assign(url))
      .catch((error: unknown) => {
        setLeaving(false);
        chat.toasts.failed(error);
      });
  };
  const unlink = (link: LinkedAccount) => {
    auth.unlink(link.id).then(reload, (error: unknown) => {
      if (error instanceof StackError && error.code === 'conflict')
        chat.toasts.show('That is your last way in. Add another one first.', 'danger');
      else chat.toasts.failed(error);
    });
  };
  return (
    <div className={styles.sections}>
      <Section title="Linked accounts" lead="Any of these signs you in here.">
        {links.length === 0 && <p className={styles.none}>None yet.</p>}
        {links.length > 0 && (
          <ul className={settings.sessions}>
            {links.map((link) => (
              <li key={link.id} className={settings.session}>
                <span className={settings.sessionIcon}>
                  <Icon name="link" />
                </span>
                <span className={settings.sessionText}>
                  <span className={settings.sessionName}>{link.title}</span>
                  <span className={settings.muted}>
                    {link.email ? `${link.email} · ` : ''}
                    {link.last_used_at != null
                      ? `used ${ago(link.last_used_at)}`
                      : `linked ${ago(link.linked_at)}`}
                  </span>
                </span>
                <Button size="s" aria-label={`Unlink ${link.title}`} onClick={() => setRemoving(link)}>
                  Unlink
                </Button>
              </li>
            ))}
          </ul>
        )}
        {free.length > 0 && (
          <div className={styles.row}>
            {free.map((provider) => (
              <Button key={provider.name} busy={leaving} onClick={() => link(provider.name)}>
                <Icon name="plus" size={18} />
                Link {provider.title}
              </Button>
            ))}
          </div>
        )}
      </Section>
      {removing && (
        <Confirm
          title={`Unlink ${removing.title}?`}
          text="It no longer signs you in here. Your account there stays as it is."
          action="Unlink"
          onConfirm={() => unlink(removing)}
          onClose={() => setRemoving(null)}
        />
      )}
    </div>
  );
}

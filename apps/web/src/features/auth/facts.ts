// What the pages before signing in need to know of the server, and what can be said about passkeys here.

import { useEffect, useState } from 'react';
import { useSession } from '../../app/context';
import { type PasskeyObstacle, type Provider, passkeyObstacle, type RegistrationInfo } from '../../sdk';
import { LEAST } from './password';

export interface Facts {
  registration: RegistrationInfo;
  providers: readonly Provider[];
}

const UNTIL_TOLD: Facts = {
  registration: { mode: 'open', password: { min_chars: LEAST }, passkeys: true },
  providers: [],
};

/** Asked once a page; until the server has answered, the usual is assumed. */
export function useFacts(): Facts {
  const { auth } = useSession();
  const [facts, setFacts] = useState(UNTIL_TOLD);
  useEffect(() => {
    let gone = false;
    void Promise.allSettled([auth.registration(), auth.providers()]).then(([registration, providers]) => {
      if (gone) return;
      setFacts({
        registration: registration.status === 'fulfilled' ? registration.value : UNTIL_TOLD.registration,
        providers: providers.status === 'fulfilled' ? providers.value : [],
      });
    });
    return () => {
      gone = true;
    };
  }, [auth]);
  return facts;
}

const WHY: Record<PasskeyObstacle, string> = {
  ip_address: 'Passkeys need a host name, and this address is a number.',
  insecure: 'Passkeys need HTTPS.',
  unsupported: 'This browser knows no passkeys.',
};

/** Why there can be no passkeys, as a sentence, or null when there can. `told` is the server's reason. */
export function noPasskeys(allowed: boolean, told?: string): string | null {
  const obstacle = passkeyObstacle();
  if (obstacle !== null) return WHY[obstacle];
  if (allowed) return null;
  return WHY[told as PasskeyObstacle] ?? 'This server is not set up for passkeys.';
}

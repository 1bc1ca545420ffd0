// An authenticator inside the browser, by the DevTools protocol: it keeps passkeys, verifies its user, and answers by
// itself unless nobody is there to touch it.

import { type CDPSession, expect, type Page } from '@playwright/test';

declare global {
  interface Window {
    openOffers: number;
  }
}

interface Credential {
  credentialId: string;
  isResidentCredential: boolean;
  rpId?: string;
  privateKey: string;
  userHandle?: string;
  signCount: number;
}

export class Authenticator {
  private constructor(
    private readonly page: Page,
    private readonly cdp: CDPSession,
    private readonly id: string,
  ) {}

  static async plugInto(page: Page): Promise<Authenticator> {
    const cdp = await page.context().newCDPSession(page);
    await cdp.send('WebAuthn.enable', { enableUI: false });
    const { authenticatorId } = await cdp.send('WebAuthn.addVirtualAuthenticator', {
      options: {
        protocol: 'ctap2',
        transport: 'internal',
        hasResidentKey: true,
        hasUserVerification: true,
        isUserVerified: true,
        automaticPresenceSimulation: true,
      },
    });
    await page.addInitScript(countOffers);
    return new Authenticator(page, cdp, authenticatorId);
  }

  /** Waits until the page stands there with its offer among the suggestions. */
  async offered(): Promise<void> {
    await expect.poll(() => this.page.evaluate(() => window.openOffers)).toBe(1);
  }

  /** Whether somebody touches it when asked. While nobody does, the offer among the suggestions stays open. */
  async touched(enabled: boolean): Promise<void> {
    await this.cdp.send('WebAuthn.setAutomaticPresenceSimulation', {
      authenticatorId: this.id,
      enabled,
    });
  }

  async credentials(): Promise<Credential[]> {
    const { credentials } = await this.cdp.send('WebAuthn.getCredentials', { authenticatorId: this.id });
    return credentials as Credential[];
  }

  /** Puts the only passkey back as it was when `copy` was taken: what somebody who copied it would have. */
  async clone(copy: Credential): Promise<void> {
    await this.cdp.send('WebAuthn.clearCredentials', { authenticatorId: this.id });
    await this.cdp.send('WebAuthn.addCredential', { authenticatorId: this.id, credential: copy });
  }
}

/** Runs in the page: counts the conditional requests that stand open. */
function countOffers(): void {
  window.openOffers = 0;
  const get = navigator.credentials.get.bind(navigator.credentials);
  navigator.credentials.get = async (options) => {
    const offer = options?.mediation === 'conditional' ? 1 : 0;
    window.openOffers += offer;
    try {
      return await get(options);
    } finally {
      window.openOffers -= offer;
    }
  };
}

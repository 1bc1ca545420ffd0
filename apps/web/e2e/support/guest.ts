// A person who talks to the gateway without the client: through fetch and a WebSocket in a page of their own.

import type { Browser, Page } from '@playwright/test';
import { PASSWORD } from './people';

interface Receipt {
  seq: number;
}

declare global {
  interface Window {
    ask(type: string, payload: object): Promise<Receipt>;
    tell(type: string, payload: object): void;
  }
}

export class Guest {
  private constructor(readonly page: Page) {}

  static async register(
    browser: Browser,
    url: string,
    username: string,
    displayName: string,
  ): Promise<Guest> {
    const page = await browser.newPage({ baseURL: url });
    // Any page of the origin will do; one without the client keeps its own socket out of the way.
    await page.goto('/favicon.svg');
    const guest = new Guest(page);
    await guest.api('POST', '/auth/register', { username, password: PASSWORD, display_name: displayName });
    await page.evaluate(async () => {
      const socket = new WebSocket(`ws://${location.host}/ws`, 'stack.v1.json');
      const waiting = new Map<number, { done(value: Receipt): void; fail(error: Error): void }>();
      let id = 0;
      socket.onmessage = (event) => {
        const frame = JSON.parse(event.data);
        const answer = waiting.get(frame.id);
        if (frame.type === 'ok') answer?.done(frame.payload);
        if (frame.type === 'error') answer?.fail(new Error(JSON.stringify(frame.payload)));
      };
      window.ask = (type, payload) =>
        new Promise((done, fail) => {
          waiting.set(++id, { done, fail });
          socket.send(JSON.stringify({ type, id, payload }));
        });
      window.tell = (type, payload) => socket.send(JSON.stringify({ type, payload }));
      await new Promise((open) => {
        socket.onopen = open;
      });
    });
    return guest;
  }

  /** Calls the HTTP API; throws on anything but success. */
  async api<T = unknown>(method: string, path: string, body?: object): Promise<T> {
    return this.page.evaluate(
      async ([method, path, body]) => {
        const response = await fetch(`/api/v1${path}`, {
          method,
          ...(body ? { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) } : {}),
        });
        const text = await response.text();
        if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
        return text === '' ? undefined : JSON.parse(text);
      },
      [method, path, body] as const,
    );
  }

  /** Sends a request on the socket and returns the payload of its `ok`. */
  ask(type: string, payload: object): Promise<Receipt> {
    return this.page.evaluate(([type, payload]) => window.ask(type, payload), [type, payload] as const);
  }

  tell(type: string, payload: object): Promise<void> {
    return this.page.evaluate(([type, payload]) => window.tell(type, payload), [type, payload] as const);
  }
}

// The chat page in a tab: what a person does there, and sees.
import { until } from './until.js';

export class Tab {
  /**
   * Opens the page, and waits until it is connected.
   * @param {import('playwright-core').Browser} browser
   * @param {string} url
   * @param {import('playwright-core').BrowserContextOptions} [options]
   */
  static async open(browser, url, options = {}) {
    const tab = new Tab();
    const context = await browser.newContext(options);
    tab.page = await context.newPage();
    /** What went wrong in the page's own code. */
    tab.problems = [];
    /** Every address the tab asked for anything. */
    tab.asked = [];
    tab.page.on('pageerror', (error) => tab.problems.push(String(error)));
    context.on('request', (request) => tab.asked.push(request.url()));
    tab.page.on('websocket', (socket) => tab.asked.push(socket.url()));
    // What the page's own security policy refuses does not get as far as a request.
    await context.addInitScript(() => {
      window.refused = [];
      addEventListener('securitypolicyviolation', ({ blockedURI }) => window.refused.push(blockedURI));
    });
    await tab.page.goto(url);
    await tab.is('connected');
    return tab;
  }

  /** Waits until the page says that its connection is so: the whole word, for "disconnected" has the other one in it. */
  async is(state) {
    await until(`the page is ${state}`, async () => (await this.page.textContent('#state')) === state);
  }

  session() {
    return this.page.textContent('#sid');
  }

  /** What it shows at one moment: its state, and the lines of its log, of which some are notes of the page itself. */
  look() {
    return this.page.evaluate(() => {
      const lines = [...document.querySelectorAll('#log li')].map((item) => {
        const text = (part) => item.querySelector(`.${part}`)?.textContent;
        const kind = ['note', 'mine', 'good', 'bad'].filter((name) => item.classList.contains(name)).join(' ');
        return { kind, room: text('room'), who: text('who'), event: text('event'), what: text('what') };
      });
      return { state: document.getElementById('state').textContent, lines };
    });
  }

  async lines() {
    return (await this.look()).lines;
  }

  /** What of a room came, notes aside. */
  async heard(room) {
    return (await this.lines()).filter((line) => line.room === room && !line.kind.includes('note')).map(({ what }) => what);
  }

  /** Waits for a line that fits, and gives it. */
  async shows(what, fits) {
    return until(`the page shows ${what}`, async () => (await this.lines()).find(fits));
  }

  /** Waits for a note of the page, and gives the line. */
  async notes(room, text) {
    return this.shows(`the note ${text} of ${room ?? 'no room'}`, (line) => line.kind.includes('note') && line.room === room && line.what === text);
  }

  async say(text) {
    await this.page.fill('#message', text);
    await this.page.click('#send');
  }

  rooms() {
    return this.page.$$eval('#rooms li', (items) => items.map((item) => item.dataset.room));
  }

  async join(room) {
    await this.page.fill('#room', room);
    await this.page.click('#join');
    await until(`${room} is listed`, async () => (await this.rooms()).includes(room));
    await this.notes(room, 'joined');
  }

  async leave(room) {
    await this.page.click(`#rooms li[data-room="${room}"] .leave`);
    await until(`${room} is listed no longer`, async () => !(await this.rooms()).includes(room));
  }

  /** What the page would have asked for if its security policy let it. */
  refused() {
    return this.page.evaluate(() => window.refused);
  }

  /** Colours as a browser computes them: `[red, green, blue]`, by the element they are looked for at. */
  async colours(selector) {
    const shown = await this.page.$eval(selector, (element) => {
      const { backgroundColor, color } = getComputedStyle(element);
      return { paper: backgroundColor, ink: color };
    });
    const parts = (colour) => colour.match(/^rgb\((\d+), (\d+), (\d+)\)$/)?.slice(1).map(Number);
    return { paper: parts(shown.paper), ink: parts(shown.ink) };
  }

  /** What reaches over the edge of the window at the side: the page as a whole, and its visible parts. */
  overflow() {
    return this.page.evaluate(() => {
      const { scrollWidth, clientWidth } = document.documentElement;
      const over = [...document.querySelectorAll('body, body *')].filter((element) => {
        if (!element.checkVisibility() || element.closest('.unseen')) return false;
        const { left, right } = element.getBoundingClientRect();
        return left < 0 || right > clientWidth;
      });
      return { scrollWidth, clientWidth, over: over.map(({ tagName, id, className }) => `${tagName} ${id} ${className}`) };
    });
  }
}

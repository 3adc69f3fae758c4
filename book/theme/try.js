// A telnet in the page, behind it the steps' own code, compiled to WebAssembly.
//
// It cannot wait in a read, so each time the client does something, the conversation is held
// anew from its beginning. That is also how another step gets the same client.
'use strict';
(() => {
    const MODULE = ''; // What `cargo book` has compiled: without it, there is no telnet.
    if (!MODULE || typeof WebAssembly !== 'object') return;

    const OPEN = 0, CLOSED = 1, RESET = 2, TIMED_OUT = 3; // As in book/try/src/lib.rs.
    const WAITS = 0;
    const STEPS = [1, 2, 3, 4, 5];
    const LINGERS = 4; // From this step on, what is unread does no harm.
    const TIMES = 5; // From this step on, a silent client is told to leave.
    const number = +(location.pathname.match(/\/(\d\d)-[^/]*$/)?.[1] ?? 0);
    const source = new URL(MODULE, document.currentScript.src).href;

    let server; // The exports, once somebody asks for them.
    const load = () => server ??= new Promise((resolve, reject) => {
        // A script, not fetch(): that does not read files of a book on one's own disk.
        const script = document.createElement('script');
        script.src = source;
        script.onload = resolve;
        script.onerror = () => reject(new Error(`cannot load ${source}`));
        document.head.append(script);
    }).then(() => {
        const bytes = Uint8Array.from(atob(self.steps), char => char.charCodeAt(0));
        return WebAssembly.instantiate(bytes);
    }).then(({ instance }) => instance.exports);

    /** The bytes that an export returns one at a time. */
    const taken = from => {
        const bytes = [];
        for (let byte; (byte = from(bytes.length)) >= 0;) bytes.push(byte);
        return Uint8Array.from(bytes);
    };

    /** How a step answers what the client has done so far. */
    const hold = (exports, step, done) => {
        let end = OPEN;
        exports.client_connects();
        for (const { bytes, kind } of done) {
            if (bytes) {
                exports.client_begins_piece();
                bytes.forEach(exports.client_sends);
            }
            if (kind === 'closes') end = CLOSED;
            if (kind === 'resets') end = RESET;
            if (kind === 'time' && step >= TIMES) end = TIMED_OUT;
        }
        const state = exports.server_holds(step, end);
        return {
            waits: state === WAITS,
            isError: state === 2,
            answer: taken(exports.answered),
            log: new TextDecoder().decode(taken(exports.logged)),
            unread: exports.unread(),
        };
    };

    // What a client can do.
    const typed = text => ({ lines: [['sent', text]], bytes: new TextEncoder().encode(text + '\r\n') });
    const happens = (kind, text) => ({ kind, lines: [['event', text]] });

    /** What the client does in a conversation of the book, as `session.rs` reads it. What it sends
     * before it listens again arrives in one piece. */
    const actions = lines => {
        const done = [];
        const send = (line, bytes) => {
            const last = done.at(-1);
            if (!last?.bytes || last.isHeard) done.push({ lines: [line], bytes });
            else {
                last.lines.push(line);
                last.bytes = joined(last.bytes, bytes);
            }
        };
        for (const [index, line] of lines.entries()) {
            const copy = line.cloneNode(true);
            copy.querySelectorAll('.spoken').forEach(spoken => spoken.remove());
            const text = copy.textContent.replace(/\n$/, '');
            const [, what, times] = text.match(/^client sends (.+) (\d+) times$/) ?? [];
            const [, leaves] = text.match(/^client (half-closes|closes|resets)$/) ?? [];
            if (line.className === 'sent') send(['sent', text], unescaped(text, '\r\n'));
            else if (line.className === 'received') done.forEach(action => action.isHeard = true);
            else if (what) send(['event', text], repeated(unescaped(what, ''), +times));
            else if (leaves) done.push(happens(leaves === 'resets' ? leaves : 'closes', text));
            else if (text === 'silence') {
                // A server that speaks after it has lost its patience.
                const isOver = lines[index + 1]?.className === 'received';
                done.push(happens(isOver ? 'time' : 'silence', text));
            }
        }
        return done;
    };
    const unescaped = (text, end) => {
        const bytes = [];
        const utf8 = new TextEncoder().encode(text);
        for (let at = 0; at < utf8.length; at++) {
            const char = String.fromCharCode(utf8[at]);
            if (char !== '\\') { bytes.push(utf8[at]); continue; }
            if (++at === utf8.length) return Uint8Array.from(bytes); // The line does not end yet.
            const escape = String.fromCharCode(utf8[at]);
            if (escape === 'x') {
                bytes.push(parseInt(String.fromCharCode(utf8[at + 1], utf8[at + 2]), 16));
                at += 2;
            } else bytes.push({ r: 13, n: 10, t: 9, 0: 0, '\\': 92 }[escape]);
        }
        return Uint8Array.from([...bytes, ...new TextEncoder().encode(end)]);
    };
    const joined = (one, other) => {
        const all = new Uint8Array(one.length + other.length);
        all.set(one);
        all.set(other, one.length);
        return all;
    };
    const repeated = (bytes, times) => {
        const all = new Uint8Array(bytes.length * times);
        for (let at = 0; at < all.length; at += bytes.length) all.set(bytes, at);
        return all;
    };

    // The box.
    const two = step => String(step).padStart(2, '0');
    const box = document.createElement('figure');
    box.className = 'session try';
    box.innerHTML = `
        <figcaption><span class="title">A telnet in the page</span>
            <span>The step’s own code, compiled for this page. Nothing leaves it.</span></figcaption>
        <fieldset><legend>The server is step</legend>${STEPS.map(step => `
            <label><input type="radio" name="try-step" value="${step}"> ${two(step)}</label>`).join('')}
        </fieldset>
        <pre class="conversation" role="log" aria-label="The conversation" tabindex="0"></pre>
        <form><label for="try-line">Type a line:</label>
            <input id="try-line" name="line" placeholder="GET / HTTP/1.1" autocomplete="off"
                autocapitalize="off" autocorrect="off" spellcheck="false" enterkeyhint="send">
            <button>Enter</button></form>
        <p class="caption" role="status"></p>
        <p class="buttons"><button type="button" name="new">New connection</button>
            <button type="button" name="leave">Half-close</button>
            <button type="button" name="time">Let time pass</button></p>`;
    const screen = box.querySelector('pre');
    const status = box.querySelector('[role=status]');
    const input = box.querySelector('#try-line');
    const steps = [...box.querySelectorAll('[name=try-step]')];
    steps[(number || 1) - 1].checked = true;
    const step = () => +steps.find(radio => radio.checked).value;

    let done = []; // What the client has done since it connected.
    let reached = 0; // How much of it the server has heard before it closed.
    let heard = 0; // How many bytes of the answer are on the screen.
    let isOpen = true;

    const print = (kind, who, text) => {
        const line = document.createElement('span');
        line.className = kind;
        if (who && screen.lastElementChild?.className !== kind) {
            const spoken = document.createElement('span');
            spoken.className = 'spoken';
            spoken.textContent = who;
            line.append(spoken);
        }
        line.append(text || ' ', '\n');
        screen.append(line);
    };
    /** The lines of an answer. A byte that is not to be seen is shown as a session shows it. */
    const shown = bytes => new TextDecoder().decode(bytes).replace(/\n$/, '').split('\n')
        .map(line => line.replace(/\r$/, '').replace(/[\0-\x08\x0b-\x1f\x7f]/g,
            char => `\\x${char.charCodeAt().toString(16).padStart(2, '0')}`));

    /** Shows what the client does next, and what comes of it. */
    const follow = (exports, action) => {
        if (!isOpen) return;
        if (action) {
            reached++;
            action.lines.forEach(([kind, text]) =>
                print(kind, kind === 'sent' ? 'you type: ' : 'event: ', text));
        }
        const { waits, isError, answer, log, unread } = hold(exports, step(), done.slice(0, reached));
        if (answer.length > heard) {
            shown(answer.slice(heard)).forEach(line => print('received', 'server answers: ', line));
        }
        heard = answer.length;
        isOpen = waits;
        if (waits) {
            status.textContent = action?.kind === 'time' && step() < TIMES
                ? `Step ${two(step())} would wait for ever.` : `Step ${two(step())} waits for you.`;
            return;
        }
        const isCut = unread && heard && step() < LINGERS;
        print('event', 'event: ', isCut
            ? `server closes, with ${unread} bytes unread: a reset, which may destroy the answer`
            : 'server closes');
        print(isError ? 'event logged failure' : 'event logged', '', `the server’s log: ${two(step())} ${log}`);
        const late = done.slice(reached).flatMap(action => action.lines).length;
        const [lines, were] = late === 1 ? ['line', 'was'] : ['lines', 'were'];
        status.textContent = (late ? `${late} ${lines} of yours ${were} not heard any more. ` : '')
            + 'The connection is closed. The next line opens a new one.';
    };

    /** Holds the whole conversation again, on an empty screen. */
    const again = exports => {
        screen.replaceChildren();
        [reached, heard, isOpen] = [0, 0, true];
        follow(exports);
        done.forEach(action => follow(exports, action));
        screen.scrollTop = screen.scrollHeight;
    };

    const withServer = what => load().then(what).catch(error => {
        server = undefined; // A panic ends this server: the next line finds a new one.
        isOpen = false;
        status.textContent = `The server has stopped: ${error.message}`;
    });
    const act = action => withServer(exports => {
        if (!isOpen || !done.length) {
            done = [];
            again(exports);
        }
        done.push(action);
        follow(exports, action);
        screen.scrollTop = screen.scrollHeight;
    });

    box.querySelector('form').addEventListener('submit', event => {
        event.preventDefault();
        act(typed(input.value));
        input.value = '';
    });
    const click = (name, what) => box.querySelector(`[name=${name}]`).addEventListener('click', what);
    click('new', () => { done = []; withServer(again); input.focus(); });
    click('leave', () => act(happens('closes', 'client half-closes')));
    click('time', () => act(happens('time', 'seven seconds pass')));
    steps.forEach(radio => radio.addEventListener('change', () => withServer(again)));
    input.addEventListener('focus', load, { once: true }); // It is there when Enter comes.

    // In a chapter it stands before the first conversation of "Try it", and goes to another where
    // one asks to play it.
    const section = document.getElementById('try-it');
    if (number && section) {
        let place = section;
        while (place.nextElementSibling && !place.nextElementSibling.matches('.session, h2')) {
            place = place.nextElementSibling;
        }
        place.after(box);
    }
    for (const command of document.querySelectorAll('.command:has(code)')) {
        const session = command.closest('.prediction') ?? command.closest('.session');
        const conversations = [...session?.querySelectorAll('.conversation') ?? []];
        const of = command.textContent.match(/demo\.sh (\d\d) /);
        // Several clients, and a reset, are for the network: their recorded conversations stand.
        const isBeyond = part => part.matches('.several') || /client resets/.test(part.textContent);
        if (!of || conversations.some(isBeyond)) continue;
        const button = document.createElement('button');
        button.type = 'button';
        button.className = 'play';
        button.textContent = 'Play it here';
        button.addEventListener('click', () => {
            session.after(box);
            steps[+of[1] - 1].checked = true;
            done = actions(conversations.flatMap(part => [...part.children]));
            withServer(again).then(() => input.focus());
        });
        command.append(button);
    }

    // One request, and what each step answers.
    const REQUESTS = [
        ['GET /', 'GET / HTTP/1.1\nHost: localhost\n\n'],
        ['BREW /pot', 'BREW /pot HTTP/1.1\nHost: localhost\n\n'],
        ['no Host', 'GET / HTTP/1.1\n\n'],
        ['two spaces', 'GET  / HTTP/1.1\nHost: localhost\n\n'],
        ['no request', 'Hello, is this the web?\n'],
    ];
    for (const place of document.querySelectorAll('.all-steps')) {
        place.innerHTML = `
            <form><label>Type a request, and see what each step answers:
                <textarea rows="4" spellcheck="false" autocapitalize="off"></textarea></label>
                <p class="buttons"><button>Send it to all steps</button>
                ${REQUESTS.map(([name], index) =>
                    `<button type="button" value="${index}">${name}</button>`).join('')}</p></form>
            <div class="answers" aria-live="polite">${STEPS.map(step =>
                `<section aria-label="Step ${two(step)}"><p>${two(step)}</p>
                    <pre class="conversation" tabindex="0"></pre></section>`).join('')}</div>`;
        const text = place.querySelector('textarea');
        const send = () => withServer(exports => {
            const bytes = new TextEncoder().encode(text.value.replace(/\r?\n/g, '\r\n'));
            place.querySelectorAll('pre').forEach((screen, index) => {
                const { waits, answer } = hold(exports, index + 1, [{ bytes }]);
                const lines = answer.length ? shown(answer) : [];
                screen.replaceChildren(...lines.map(line => {
                    const row = document.createElement('span');
                    row.className = 'received';
                    row.textContent = `${line || ' '}\n`;
                    return row;
                }));
                if (lines.length) return;
                const row = document.createElement('span');
                row.className = 'event';
                row.textContent = waits ? 'waits for more' : 'closes without a word';
                screen.append(row);
            });
        });
        place.querySelector('form').addEventListener('submit', event => {
            event.preventDefault();
            send();
        });
        place.querySelectorAll('[value]').forEach(button => button.addEventListener('click', () => {
            text.value = REQUESTS[button.value][1];
            send();
        }));
        text.value = REQUESTS[0][1];
    }
})();

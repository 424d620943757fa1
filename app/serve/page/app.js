// The page of `lookfar serve`. No library, no request to anybody but this server. What a model says is data: it becomes text
// nodes and a few elements made here, never markup.
'use strict';

const $ = (id) => document.getElementById(id);

function element(name, className, ...children) {
    const node = document.createElement(name);
    if (className) node.className = className;
    node.append(...children);
    return node;
}

// ---- what is kept in the browser ----

const defaults = { mode: '', system: '', temperature: 0.7, seed: '', max: '', proposer: '', key: '', shade: true, compare: false };

function load(key, fallback) {
    try {
        return JSON.parse(localStorage.getItem(key)) ?? fallback;
    } catch {
        return fallback;
    }
}

// Old conversations make room when the browser's store is full.
function save() {
    localStorage.setItem('lookfar.settings', JSON.stringify(settings));
    for (;;) {
        try {
            localStorage.setItem('lookfar.chats', JSON.stringify(chats));
            return;
        } catch {
            if (chats.length < 2) return;
            chats.pop();
        }
    }
}

const settings = { ...defaults, ...load('lookfar.settings', {}) };
let chats = load('lookfar.chats', []); // newest first: { title, turns: [{ user, answers: [{ label, text, spans, stats, error }] }] }
let current = null;                    // a chat of those, or null: one that has not begun
let running = null;                    // an AbortController
let props = {};

// ---- Markdown, with the place of every character kept ----
//
// Blocks and inline marks are found in the source by offsets, and text leaves by `leaf(from, to)`, which knows how the tokens
// there came.

// spans: [end, accepted] in order: the characters up to `end` since the last one. White space before a shaded word is left white: at the end
// of a line it would be a fleck.
function leafMaker(source, spans) {
    return (parent, from, to) => {
        let i = 0;
        while (i < spans.length && spans[i][0] <= from) i++;
        while (from < to) {
            const end = i < spans.length ? Math.min(spans[i][0], to) : to;
            const text = source.slice(from, end), isShaded = i < spans.length && spans[i][1];
            const word = isShaded ? text.trimStart() : '';
            if (word.length < text.length) parent.append(text.slice(0, text.length - word.length));
            if (word) parent.append(element('span', 'accepted', word));
            from = end;
            i++;
        }
    };
}

const inlineMarks = /(`+)([^`]|[^`][\s\S]*?[^`])\1(?!`)|\*\*(?=\S)([\s\S]*?\S)\*\*|(?<![\w*])[*_](?=[^\s*_])([\s\S]*?[^\s*_])[*_](?![\w*])|\[([^\]\n]*)\]\((https?:\/\/[^\s)]+)\)/g;

function renderInline(parent, source, from, to, leaf) {
    const text = source.slice(from, to);
    let done = 0;
    for (const m of text.matchAll(inlineMarks)) {
        const start = from + m.index;
        leaf(parent, from + done, start);
        done = m.index + m[0].length;
        if (m[2] !== undefined) {
            const code = element('code');
            leaf(code, start + m[1].length, start + m[1].length + m[2].length);
            parent.append(code);
        } else if (m[3] !== undefined || m[4] !== undefined) {
            const marks = m[3] !== undefined ? 2 : 1;
            const node = element(marks === 2 ? 'strong' : 'em');
            renderInline(node, source, start + marks, start + m[0].length - marks, leaf);
            parent.append(node);
        } else {
            const link = element('a');
            link.href = m[6];
            link.rel = 'noopener noreferrer nofollow';
            link.target = '_blank';
            leaf(link, start + 1, start + 1 + m[5].length);
            parent.append(link);
        }
    }
    leaf(parent, from + done, to);
}

function linesOf(source) {
    const lines = [];
    for (let from = 0; from <= source.length;) {
        let to = source.indexOf('\n', from);
        if (to < 0) to = source.length;
        lines.push({ from, to, text: source.slice(from, to) });
        from = to + 1;
    }
    return lines;
}

const fence = /^ {0,3}(```+|~~~+)\s*([\w+-]*)\s*$/, heading = /^ {0,3}(#{1,6})\s+/, bullet = /^(\s*)[-*+]\s+/,
    numbered = /^(\s*)(\d{1,9})[.)]\s+/, quote = /^ {0,3}>\s?/, rule = /^ {0,3}([-*_])(\s*\1){2,}\s*$/;

function startsBlock(text) {
    return fence.test(text) || heading.test(text) || bullet.test(text) || numbered.test(text) || quote.test(text) || rule.test(text);
}

function renderMarkdown(parent, source, spans) {
    const leaf = leafMaker(source, spans), lines = linesOf(source);
    const inline = (node, from, to) => renderInline(node, source, from, to, leaf);
    for (let i = 0; i < lines.length;) {
        const line = lines[i], text = line.text;
        let m;
        if (text.trim() === '') {
            i++;
        } else if ((m = text.match(fence))) {
            const code = element('code');
            let end = i + 1;
            while (end < lines.length && !(lines[end].text.trim().startsWith(m[1]) && fence.test(lines[end].text))) end++;
            if (end > i + 1) leaf(code, lines[i + 1].from, lines[end - 1].to);
            parent.append(element('pre', '', code));
            i = end + 1;
        } else if ((m = text.match(heading))) {
            const node = element('h' + Math.min(m[1].length, 4));
            inline(node, line.from + m[0].length, line.to);
            parent.append(node);
            i++;
        } else if (rule.test(text)) {
            parent.append(element('hr'));
            i++;
        } else if (quote.test(text)) {
            const node = element('blockquote');
            for (; i < lines.length && (m = lines[i].text.match(quote)); i++) {
                inline(node, lines[i].from + m[0].length, lines[i].to);
                node.append(element('br'));
            }
            node.lastChild.remove();
            parent.append(node);
        } else if (bullet.test(text) || numbered.test(text)) {
            const mark = bullet.test(text) ? bullet : numbered, node = element(mark === bullet ? 'ul' : 'ol');
            if (mark === numbered) node.start = Number(text.match(numbered)[2]);
            for (; i < lines.length && (m = lines[i].text.match(mark)); ) {
                const item = element('li'), from = lines[i].from + m[0].length;
                let end = i + 1;
                while (end < lines.length && lines[end].text.trim() !== '' && !startsBlock(lines[end].text)) end++;
                inline(item, from, lines[end - 1].to);
                node.append(item);
                i = end;
            }
            parent.append(node);
        } else {
            const node = element('p');
            let end = i + 1;
            while (end < lines.length && lines[end].text.trim() !== '' && !startsBlock(lines[end].text)) end++;
            inline(node, line.from, lines[end - 1].to);
            parent.append(node);
            i = end;
        }
    }
}

// ---- one answer on the page ----

// Tokens a second: as the server measured them in the end, and until then by the clock here.
function speed(s) {
    const seconds = (performance.now() - s.first) / 1000;
    return s.rate ?? (s.tokens > 1 && seconds > 0 ? (s.tokens - 1) / seconds : 0);
}

function statsLine(answer) {
    const s = answer.stats, parts = [];
    if (!s || !s.tokens) return [];
    parts.push(element('b', '', (s.tokens / Math.max(s.passes, 1)).toFixed(2)), ' tokens per pass · ');
    if (speed(s)) parts.push(element('b', '', speed(s).toFixed(speed(s) < 100 ? 1 : 0)), ' tokens/s · ');
    parts.push(`${s.tokens} tokens · first after ${((s.first - s.begin) / 1000).toFixed(2)} s`);
    if (s.finish === 'length') parts.push(' · cut off by the limit');
    return parts;
}

function answerView(answer) {
    const text = element('div', 'text'), stats = element('p', 'stats'), view = element('div', 'answer');
    if (answer.label) view.append(element('h3', '', answer.label));
    const bar = element('progress'), error = element('p', 'error');
    bar.hidden = error.hidden = true;
    view.append(bar, text, stats, error);
    let due = false;
    const draw = () => {
        due = false;
        const isDone = answer.done;
        text.replaceChildren();
        text.className = answer.mode === 'text' ? 'text plain' : 'text';
        const indent = answer.text.startsWith(' ') ? 1 : 0; // goes on after the prompt's last word
        if (answer.mode === 'text') leafMaker(answer.text, answer.spans)(text, indent, answer.text.length);
        else renderMarkdown(text, answer.text, answer.spans);
        const end = answer.mode === 'text' ? text : text.lastElementChild ?? text;
        end.classList.toggle('waits', !isDone && bar.hidden);
        bar.hidden = isDone || !answer.progress || answer.text !== '';
        if (!bar.hidden) {
            bar.max = answer.progress.total;
            bar.value = answer.progress.processed;
            stats.textContent = `reading the prompt: ${answer.progress.processed} of ${answer.progress.total} tokens`;
        } else {
            stats.replaceChildren(...statsLine(answer));
        }
        error.hidden = !answer.error;
        error.textContent = answer.error ?? '';
    };
    // At most once a frame, however fast the tokens come.
    return { view, draw, drawSoon() {
        if (due) return;
        due = true;
        requestAnimationFrame(() => {
            const log = $('log'), atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
            draw();
            if (atEnd) log.scrollTop = log.scrollHeight;
        });
    } };
}

// ---- asking ----

function headers() {
    const all = { 'Content-Type': 'application/json' };
    if (settings.key) all.Authorization = 'Bearer ' + settings.key;
    return all;
}

// The data of each event of a stream.
async function* events(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        rest += value;
        const parts = rest.split('\n\n');
        rest = parts.pop();
        for (const part of parts) if (part.startsWith('data: ')) yield part.slice(6);
    }
}

function addTokens(answer, tokens) {
    const s = answer.stats;
    for (const t of tokens) {
        answer.text += t.text;
        const last = answer.spans.at(-1), accepted = t.proposed ? 1 : 0;
        if (t.text && last && last[1] === accepted) last[0] = answer.text.length;
        else if (t.text) answer.spans.push([answer.text.length, accepted]);
        if (t.id < 0) continue;
        s.first ??= performance.now();
        s.tokens++;
        s.passes += t.proposed ? 0 : 1; // each pass ends with a token that was not guessed
    }
}

async function ask(answer, body, view, signal) {
    const begin = performance.now();
    answer.stats = { begin, first: null, tokens: 0, passes: 0, finish: null, rate: null };
    view.drawSoon();
    try {
        const path = answer.mode === 'text' ? 'v1/completions' : 'v1/chat/completions';
        const response = await fetch(path, { method: 'POST', headers: headers(), signal, body: JSON.stringify(body) });
        if (!response.ok) {
            const told = await response.json().catch(() => null);
            throw new Error(told?.error?.message ?? `the server answered ${response.status}`);
        }
        for await (const data of events(response.body)) {
            if (data === '[DONE]') break;
            const chunk = JSON.parse(data);
            if (chunk.error) throw new Error(chunk.error.message);
            if (chunk.prompt_progress) answer.progress = chunk.prompt_progress;
            if (chunk.lookfar) addTokens(answer, chunk.lookfar.tokens);
            answer.stats.finish = chunk.choices[0]?.finish_reason ?? answer.stats.finish;
            answer.stats.rate = chunk.timings?.predicted_per_second ?? answer.stats.rate;
            view.drawSoon();
        }
    } catch (e) {
        if (e.name !== 'AbortError') answer.error = e.message;
        if (/API key/.test(e.message)) $('settings').showModal();
    }
    answer.stats.first ??= performance.now();
    answer.stats.rate ??= speed(answer.stats); // stopped: nobody measured it but this page
    answer.done = true;
    delete answer.progress;
    view.drawSoon();
}

function makeBody(chat, mode, seed) {
    const body = { stream: true, temperature: Number(settings.temperature), seed, return_provenance: true, return_progress: true,
        timings_per_token: true };
    if (settings.max) body.max_tokens = Number(settings.max);
    const earlier = chat.turns.slice(0, -1), last = chat.turns.at(-1);
    if (mode === 'text') {
        body.prompt = earlier.map((t) => t.user + t.answers.at(-1).text).join('') + last.user;
        body.max_tokens ??= props.default_generation_settings?.n_ctx ?? 256;
        return body;
    }
    body.messages = settings.system ? [{ role: 'system', content: settings.system }] : [];
    for (const t of earlier) {
        body.messages.push({ role: 'user', content: t.user });
        body.messages.push({ role: 'assistant', content: t.answers.at(-1).text });
    }
    body.messages.push({ role: 'user', content: last.user });
    return body;
}

function verdict(plain, fast) {
    const same = plain.text === fast.text;
    const gain = speed(fast.stats) / speed(plain.stats);
    return element('p', 'verdict', same ? 'The same text' : 'Not the same text', ', ',
        element('b', '', Number.isFinite(gain) ? `${gain.toFixed(2)}×` : 'as'), ' as fast');
}

async function send(user) {
    const mode = settings.mode, seed = settings.seed === '' ? Math.floor(Math.random() * 2 ** 32) : Number(settings.seed);
    if (!current) {
        current = { title: user.trim().slice(0, 60), turns: [] };
        chats.unshift(current);
        drawChats();
    }
    const chat = current, compare = settings.compare;
    const make = (label) => ({ label, mode, text: '', spans: [], done: false });
    const turn = { user, answers: compare ? [make('Plain'), make('With guesses')] : [make('')] };
    chat.turns.push(turn);
    const { node, views } = drawTurn(turn);
    $('log').scrollTop = $('log').scrollHeight;
    running = new AbortController();
    setRunning(true);
    // One after the other: each has the machine for itself.
    for (let i = 0; i < turn.answers.length; i++) {
        const body = makeBody(chat, mode, seed);
        if (compare && i === 0) body.speculative = false;
        else if (settings.proposer === 'none' && !compare) body.speculative = false;
        else if (settings.proposer && settings.proposer !== 'none') body.speculative = { proposer: settings.proposer };
        await ask(turn.answers[i], body, views[i], running.signal);
        if (running.signal.aborted) break;
    }
    if (compare && turn.answers.every((a) => a.done && a.text && !a.error)) node.append(verdict(...turn.answers));
    turn.answers = turn.answers.filter((a) => a.done);
    running = null;
    setRunning(false);
    save();
}

// ---- the page ----

function drawTurn(turn) {
    document.querySelector('.welcome')?.remove();
    const user = element('div', 'user', turn.user);
    user.classList.toggle('long', turn.user.length > 1500);
    const isCompared = turn.answers.length > 1;
    const views = turn.answers.map(answerView), answers = element('div', 'answers', ...views.map((v) => v.view));
    const node = element('div', isCompared ? 'compared' : '', answers);
    $('log').append(element('div', 'turn user-turn', user), node);
    for (const v of views) v.draw();
    if (isCompared && turn.answers.every((a) => a.done && a.text && !a.error)) node.append(verdict(...turn.answers));
    return { node, views };
}

function drawChat() {
    $('log').replaceChildren();
    $('title').textContent = current?.title ?? 'New conversation';
    if (current) current.turns.forEach(drawTurn);
    else $('log').append(element('div', 'welcome', element('h2', '', settings.mode === 'text' ? 'Begin a text' : 'Ask something'),
        settings.mode === 'text' ? 'The model goes on with what you write.' : 'Guessed tokens are checked together: the answer is the same, sooner.'));
    $('log').scrollTop = $('log').scrollHeight;
}

function drawChats() {
    $('chats').replaceChildren(...chats.map((chat) => {
        const open = element('button', 'open', chat.title || 'Untitled'), remove = element('button', 'delete', '×');
        open.type = remove.type = 'button';
        remove.setAttribute('aria-label', `Delete ${chat.title}`);
        open.onclick = () => choose(chat);
        remove.onclick = () => {
            if (chat === current && running) return;
            chats = chats.filter((c) => c !== chat);
            if (chat === current) choose(null);
            drawChats();
            save();
        };
        return element('li', chat === current ? 'current' : '', open, remove);
    }));
    $('title').textContent = current?.title ?? 'New conversation';
}

function choose(chat) {
    if (running) return;
    current = chat;
    showMenu(false);
    drawChats();
    drawChat();
    $('input').focus();
}

function showMenu(open) {
    $('sidebar').classList.toggle('open', open);
    $('veil').hidden = !open;
    $('menu').setAttribute('aria-expanded', String(open));
}

function setRunning(on) {
    $('send').textContent = on ? 'Stop' : 'Send';
    $('send').classList.toggle('stop', on);
}

function applySettings() {
    $('log').classList.toggle('shaded', settings.shade);
    $('legend').hidden = !settings.shade;
    $('shade').checked = settings.shade;
    $('compare').checked = settings.compare;
    $('input').placeholder = settings.mode === 'text' ? 'Begin a text' : 'Write a message';
    for (const name of ['mode', 'system', 'temperature', 'seed', 'max', 'proposer', 'key']) $('s-' + name).value = settings[name];
}

function fitInput() {
    $('input').style.height = 'auto';
    $('input').style.height = $('input').scrollHeight + 'px';
}

async function readProps() {
    try {
        const response = await fetch('props', { headers: headers() });
        if (response.status === 401) $('settings').showModal();
        if (response.status === 503) setTimeout(readProps, 1000); // it is loading
        if (!response.ok) return;
        props = await response.json();
        $('model').textContent = `${props.model_alias} · ${props.default_generation_settings.n_ctx} tokens`;
        if (!settings.mode) settings.mode = props.chat_template ? 'chat' : 'text';
    } catch {
        setTimeout(readProps, 2000);
    }
    applySettings();
    if (!current) drawChat();
}

$('compose').onsubmit = (event) => {
    event.preventDefault();
    if (running) {
        running.abort();
        return;
    }
    const text = $('input').value;
    if (text.trim() === '' && settings.mode !== 'text') return;
    if (text === '' && !current) return;
    $('input').value = '';
    fitInput();
    send(text);
};
$('input').oninput = fitInput;
$('input').onkeydown = (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing || matchMedia('(pointer: coarse)').matches) return;
    event.preventDefault();
    if (!running) $('compose').requestSubmit();
};
$('new').onclick = () => choose(null);
$('menu').onclick = () => showMenu(!$('sidebar').classList.contains('open'));
$('veil').onclick = () => showMenu(false);
$('settings-open').onclick = () => $('settings').showModal();
$('settings').onclose = () => {
    const mode = settings.mode, key = settings.key;
    for (const name of ['mode', 'system', 'temperature', 'seed', 'max', 'proposer', 'key']) settings[name] = $('s-' + name).value;
    applySettings();
    save();
    if (key !== settings.key) readProps();
    if (mode !== settings.mode && !current) drawChat();
};
$('forget').onclick = () => {
    if (running) return;
    chats = [];
    save();
    choose(null);
};
for (const name of ['shade', 'compare'])
    $(name).onchange = () => {
        settings[name] = $(name).checked;
        applySettings();
        save();
    };

applySettings();
drawChats();
drawChat();
readProps();

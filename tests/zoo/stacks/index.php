<?php
// PHP: the built-in server, PHP-FPM behind nginx and Apache, and php-cgi behind lighttpd.
$site = getenv('ZOO_SITE') ?: $_SERVER['ZOO_SITE'];
$path = parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH);

function data(string $site): string
{
    $rows = array_map(fn ($n) => ['id' => $n, 'name' => "row $n"], range(0, 19));
    return json_encode(['value' => file_get_contents("$site/value.txt"), 'rows' => $rows]);
}

switch ($path) {
    case '/':
        readfile("$site/index.html");
        break;
    case '/data':
        header('Content-Type: application/json');
        echo data($site);
        break;
    case '/session':
        session_save_path(sys_get_temp_dir());
        session_start();
        header('Content-Type: application/json');
        echo data($site);
        break;
    case '/tagged':
        $tag = '"' . md5(data($site)) . '"';
        header("ETag: $tag");
        if (($_SERVER['HTTP_IF_NONE_MATCH'] ?? '') === $tag) {
            http_response_code(304);
            break;
        }
        header('Content-Type: application/json');
        echo data($site);
        break;
    case '/save':
        file_put_contents("$site/value.txt", $_POST['value']);
        header('Location: /', true, 303);
        break;
    case '/upload':
        $body = file_get_contents('php://input');
        header('Content-Type: application/json');
        echo json_encode(['bytes' => strlen($body), 'sha1' => sha1($body)]);
        break;
    case '/file.bin':
        header('Content-Type: application/octet-stream');
        readfile("$site/file.bin");
        break;
    case '/wait':
        usleep(300000);
        header('Content-Type: text/plain');
        echo 'waited';
        break;
    case '/moved':
        header('Location: /data', true, 302);
        break;
    case '/cookie':
        setcookie('a', '1', ['path' => '/']);
        setcookie('b', '2', ['httponly' => true]);
        header('Content-Type: text/plain');
        echo 'two cookies';
        break;
    case '/events':
        header('Content-Type: text/event-stream');
        while (ob_get_level() > 0) {
            ob_end_flush();
        }
        foreach (['one', 'two', 'three'] as $event) {
            echo "data: $event\n\n";
            flush();
            usleep(50000);
        }
        break;
    default:
        http_response_code(404);
        header('Content-Type: text/plain');
        echo 'no such page';
}

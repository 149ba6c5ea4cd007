# PSGI, for Starman.
use strict;
use warnings;
use Digest::SHA qw(sha1_hex);

my $site = $ENV{ZOO_SITE};

sub slurp { open my $in, '<:raw', "$site/$_[0]" or die "$_[0]: $!"; local $/; return <$in> }

sub data {
    my $rows = join ',', map {qq({"id":$_,"name":"row $_"})} 0 .. 19;
    return sprintf '{"value":"%s","rows":[%s]}', slurp('value.txt'), $rows;
}

sub {
    my $env = shift;
    my $path = $env->{PATH_INFO};
    my $body = '';
    $env->{'psgi.input'}->read($body, $env->{CONTENT_LENGTH} || 0) if $env->{REQUEST_METHOD} eq 'POST';
    return [200, ['Content-Type' => 'text/html'], [slurp('index.html')]] if $path eq '/';
    return [200, ['Content-Type' => 'application/json'], [data()]] if $path eq '/data';
    if ($path eq '/save') {
        my ($value) = $body =~ /value=([^&]*)/;
        open my $out, '>', "$site/value.txt" or die $!;
        print $out $value;
        close $out;
        return [303, [Location => '/'], []];
    }
    return [200, ['Content-Type' => 'application/json'], [sprintf '{"bytes":%d,"sha1":"%s"}', length $body, sha1_hex($body)]] if $path eq '/upload';
    if ($path eq '/file.bin') { open my $in, '<:raw', "$site/file.bin" or die $!; return [200, ['Content-Type' => 'application/octet-stream'], $in] }
    return [302, [Location => '/data'], []] if $path eq '/moved';
    if ($path eq '/wait') { select undef, undef, undef, 0.3; return [200, ['Content-Type' => 'text/plain'], ['waited']] }
    return [200, ['Content-Type' => 'text/plain', 'Set-Cookie' => 'a=1; Path=/', 'Set-Cookie' => 'b=2; HttpOnly'], ['two cookies']] if $path eq '/cookie';
    return sub {
        my $writer = shift->([200, ['Content-Type' => 'text/event-stream']]);
        for (qw(one two three)) { $writer->write("data: $_\n\n"); select undef, undef, undef, 0.05 }
        $writer->close;
    } if $path eq '/events';
    return [404, ['Content-Type' => 'text/plain'], ['no such page']];
};
